# SPDX-License-Identifier: MIT
"""What must hold after an upgrade of a guest, in one place for the demo and the boot test."""

from __future__ import annotations

from dataclasses import dataclass

from qemu.load import LoadStats
from qemu.upgrade import Snapshot, Upgrade, units

# The services whose policy promises that they run the new image's program when the upgrade is over.
RENEWED = ("nginx.service", "web.service")
KEPT = ("stream.service", "agent.service")


@dataclass
class Facts:
    """Everything that was seen. What is None did not come to pass."""

    boot_seconds: float = 0.0
    cpus: int = 0
    memory: str = ""
    accelerator: str = ""
    before: Snapshot | None = None
    after: Snapshot | None = None
    upgrade: Upgrade | None = None
    upgrade_begin: float = 0.0
    upgrade_end: float = 0.0
    load: LoadStats | None = None
    agent_hellos: int = 1
    images_changed: list[str] | None = None
    off_reason: str | None = None
    unclean: dict[str, str] | None = None  # file system -> why
    error: str = ""  # what ended the run early


def problems(facts: Facts) -> list[str]:
    """Everything that is not as it must be, one line each; empty means passed."""
    if facts.error:
        # What did not come to pass after that is no news; what clients saw until then is.
        return [facts.error, *(facts.load.problems if facts.load else [])]
    return [*_of_upgrade(facts), *_of_system(facts), *_of_load(facts), *_of_end(facts)]


def _of_upgrade(facts: Facts) -> list[str]:
    if not facts.upgrade:
        return ["there was no upgrade"]
    if facts.upgrade.code != 0:
        return [f"the upgrade: {facts.upgrade.text} (exit {facts.upgrade.code})"]
    return []


def _of_system(facts: Facts) -> list[str]:
    before, after = facts.before, facts.after
    if not before or not after:
        return ["the system was not looked at before and after"]
    found = []
    if before.os_release == after.os_release:
        found.append(f"/etc/os-release is still that of {before.os_release}")
    if before.boot_id != after.boot_id:
        found.append("the machine has rebooted")
    if after.init != "molt":
        found.append(f"PID 1 is {after.init}, not molt")
    if facts.agent_hellos != 1:
        found.append("the agent was started again")
    return found + _of_services(before, after)


def _of_services(before: Snapshot, after: Snapshot) -> list[str]:
    generation = (after.status.get("system") or {}).get("generation")
    then, now = units(before.status), units(after.status)
    found = []
    for name in (*RENEWED, *KEPT):
        state = now.get(name, {}).get("state", "not there")
        if state != "running":
            found.append(f"{name} is {state}")
    for name in RENEWED:
        runs = now.get(name, {}).get("exe_generation")
        if None not in (runs, generation) and runs != generation:
            found.append(f"{name} still runs the program of generation {runs}")
    for name in KEPT:
        if then.get(name, {}).get("main_pid") != now.get(name, {}).get("main_pid"):
            found.append(f"{name} is another process than before, its policy is keep")
    return found


def _of_load(facts: Facts) -> list[str]:
    if not facts.load:
        return ["there was no load"]
    found = list(facts.load.problems)
    for stream in facts.load.streams:
        if stream.still_open != stream.clients:
            found.append(f"{stream.name}: {stream.still_open} of {stream.clients} are open")
    return found


def _of_end(facts: Facts) -> list[str]:
    found = [f"{name} was written to" for name in facts.images_changed or []]
    if facts.off_reason is None:
        found.append("the machine was not powered off")
    elif facts.off_reason != "guest-shutdown":
        found.append(f"the machine ended by {facts.off_reason or 'itself'}, not by a power-off")
    found += [f"{name} was not unmounted: {why}" for name, why in (facts.unclean or {}).items()]
    return found
