# SPDX-License-Identifier: MIT
"""What a guest says about itself and its upgrade: `initctl --json` as Python data.

Members that are not there count as unknown and kinds that are not known are skipped, as
conf/protocol.h asks of every reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qemu.guest import Guest

Event = dict[str, Any]


@dataclass
class Upgrade:
    """One `initctl upgrade`: its events in order, and how it ended."""

    code: int
    events: list[Event]
    other: list[str] = field(default_factory=list)  # lines that were no events: complaints

    def of_kind(self, kind: str) -> list[Event]:
        return [e for e in self.events if e.get("event") == kind]

    @property
    def text(self) -> str:
        """The last line: "committed", "rolled back: WHY", "refused: WHY"."""
        results = self.of_kind("result")
        if results:
            return str(results[-1].get("text") or results[-1].get("result"))
        return "; ".join(self.other) or f"no result, exit {self.code}"

    @property
    def blackout_ms(self) -> float | None:
        found = self.of_kind("blackout")
        return milliseconds(found[-1]) if found else None


@dataclass(frozen=True)
class Snapshot:
    """A guest at one moment."""

    os_release: str  # PRETTY_NAME
    kernel: str
    boot_id: str
    init: str  # what PID 1 is
    rss_kib: int
    status: dict[str, Any]
    holders: list[Event]


def upgrade(guest: Guest, path: str, timeout: float,
            tell: Callable[[Event], None] | None = None) -> Upgrade:
    """Runs an upgrade to its end; `tell` gets each event as it comes."""
    events: list[Event] = []
    other: list[str] = []

    def take(line: str) -> None:
        event = _parse(line)
        if event is None:
            other.append(line)
            return
        events.append(event)
        if tell:
            tell(event)

    result = guest.run(f"exec initctl upgrade --json {path}", timeout, take)
    return Upgrade(result.code, events, other)


def snapshot(guest: Guest) -> Snapshot:
    """Looks at the guest."""
    script = """. /etc/os-release; echo "$PRETTY_NAME"; uname -r
cat /proc/sys/kernel/random/boot_id
cat /proc/1/comm
sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/1/status"""
    name, kernel, boot_id, init, rss = guest.check(script).splitlines()
    status = document(guest, "initctl status --json")
    holders = document(guest, "initctl holders --json").get("holders") or []
    return Snapshot(name, kernel, boot_id, init, int(rss), status, holders)


def document(guest: Guest, command: str) -> dict[str, Any]:
    """The one JSON document that a command prints."""
    said = guest.check(command)
    found = _parse(said)
    if found is None:
        raise guest.machine.failure(f"`{command}` printed no JSON: {said}")
    return found


def units(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services of a status document, by name."""
    return {u["name"]: u for u in status.get("services") or []}


def milliseconds(event: Event) -> float:
    return float(event.get("usec") or 0) / 1000


def _parse(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
