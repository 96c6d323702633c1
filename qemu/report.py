# SPDX-License-Identifier: MIT
"""The facts of a run as a page for a person."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from qemu.http_client import HttpStats
from qemu.stream_client import StreamStats
from qemu.upgrade import Event, Upgrade, milliseconds, units
from qemu.verdict import Facts, problems

WIDTH = 78

# What happens in each phase, for who has not read the manual.
PHASES = {
    "plan": "the image is opened and judged; everything runs on",
    "prepare": "what the blackout needs is made ready",
    "freeze": "every process but PID 1 is stopped",
    "verify": "is everything still as it was planned?",
    "seize": "processes to be migrated are taken hold of",
    "pivot": "the mounts are moved, the new root takes the old one's place",
    "migrate": "directories that processes hold on the old image are exchanged",
    "thaw": "every process runs again, now on the new root",
    "exec": "PID 1 becomes the new image's init",
    "services": "services get onto the new image's programs, by policy",
    "commit": "the old root is unmounted",
}


def report(facts: Facts, title: str) -> str:
    """The whole page."""
    sections = [_system(facts), _timeline(facts), _clients(facts), _streams(facts),
                _services(facts), _holders(facts), _verdict(facts)]
    lines = [title, "=" * WIDTH]
    for section in sections:
        lines += _ended(list(section))
    return "\n".join(lines[:-1])


def _ended(section: list[str]) -> list[str]:
    return [*section, ""] if section else []


def _system(facts: Facts) -> Iterable[str]:
    before, after = facts.before, facts.after
    if not before:
        return ["system        did not come up"]
    now = after or before
    same = "no reboot" if before.boot_id == now.boot_id else "REBOOTED"
    return [
        f"machine       QEMU {facts.accelerator}{_slowness(facts)}, {facts.cpus} "
        f"CPU{'s' * (facts.cpus > 1)}, {facts.memory}; services up {facts.boot_seconds:.1f} s after "
        "power-on",
        f"kernel        {before.kernel} before and after, {same}",
        f"os-release    {before.os_release}  ->  {now.os_release if after else '?'}",
        f"PID 1         {now.init}; memory {_mib(before.rss_kib)}  ->  "
        f"{_mib(now.rss_kib) if after else '?'} (VmRSS)",
    ]


def _slowness(facts: Facts) -> str:
    return ", every instruction emulated" if facts.accelerator == "tcg" else ""


def _timeline(facts: Facts) -> Iterable[str]:
    upgrade = facts.upgrade
    if not upgrade:
        return ["upgrade       there was none"]
    took = facts.upgrade_end - facts.upgrade_begin
    yield f"upgrade       {upgrade.text}; `initctl upgrade` took {took:.2f} s from start to exit"
    yield ""
    yield f"  {'phase':<10}{'begins':>8}{'takes':>9}  ms"
    yield from _phases(upgrade)
    if upgrade.blackout_ms is not None:
        yield f"  {'blackout':<10}{'':>8}{upgrade.blackout_ms:>9.1f}  all phases with a * together: " \
              "nothing but PID 1 ran"
    for warning in upgrade.of_kind("warning") + upgrade.of_kind("blocker"):
        yield f"  {warning['event']}: {warning.get('text')}"


def _phases(upgrade: Upgrade) -> Iterable[str]:
    clock = 0.0
    for phase in upgrade.of_kind("phase"):
        took = milliseconds(phase)
        name, frozen = str(phase.get("name", "?")), "*" if phase.get("blackout") else " "
        yield f"  {name:<10}{clock:>8.1f}{took:>9.1f} {frozen}{PHASES.get(name, '')}"
        clock += took


def _clients(facts: Facts) -> Iterable[str]:
    load = facts.load
    if not load:
        return ["requests      there was no load"]
    yield (f"requests      {load.requests} sent in {load.end - load.begin:.1f} s, "
           f"{sum(h.failed for h in load.http)} failed")
    yield from _longest_gap(facts)
    yield ""
    yield f"  {'':<24}{'':>8}{'':>8}{'closed':>8}{'':>9}   longest gap, ms"
    yield (f"  {'':<24}{'sent':>8}{'failed':>8}{'idle':>8}{'crossed':>9}"
           f"{'before':>9}{'since':>9}")
    for http in load.http:
        before, during = _gaps(facts, http)
        yield (f"  {http.name:<24}{http.ok + http.failed:>8}{http.failed:>8}{http.closed:>8}"
               f"{http.crossed:>9}{before:>9.0f}{during:>9.0f}")
    yield "  gap: from one good answer to the next, of one client; since: since initctl was started"
    if any(h.closed or h.crossed for h in load.http):
        yield "  closed idle: a kept connection that the server closed between two requests"
    if any(h.crossed for h in load.http):
        yield ("  crossed: such a close while the next request was on its way; not one byte of an "
               "answer")
        yield "           came, the client asked again as HTTP lets it (RFC 9112, 9.3.1): answered"
    for http in load.http:
        yield from _who_answered(http)


def _longest_gap(facts: Facts) -> Iterable[str]:
    """Of all clients, HTTP and streams: the one whose gap was the longest since the upgrade began."""
    groups: list[HttpStats | StreamStats] = []
    if facts.load:
        groups = [*facts.load.http, *facts.load.streams]
    if groups and facts.upgrade:
        worst = max(groups, key=lambda group: _gaps(facts, group)[1])
        before = max(_gaps(facts, group)[0] for group in groups)
        yield (f"longest gap   {_gaps(facts, worst)[1]:.0f} ms that any client saw since the upgrade "
               f"began ({worst.name}), {before:.0f} ms before it")


def _gaps(facts: Facts, group: HttpStats | StreamStats) -> tuple[float, float]:
    """The longest gap before the upgrade, and from its begin on, in ms."""
    before = group.longest_gap(float("-inf"), facts.upgrade_begin or float("inf"))
    during = group.longest_gap(facts.upgrade_begin, float("inf")) if facts.upgrade_begin else 0.0
    return before * 1000, during * 1000


def _who_answered(http: HttpStats) -> Iterable[str]:
    if len(http.servers) > 1:
        answers = (f"{n} by {who}" for who, n in http.servers.items())
        yield f"  {http.name}: {', then '.join(answers)}"


def _streams(facts: Facts) -> Iterable[str]:
    for stream in facts.load.streams if facts.load else []:
        yield (f"connections   {stream.opened} were open to {stream.name} before the upgrade, "
               f"{stream.still_open} of them are still open after")
        yield (f"              {stream.beats} numbered lines came over them, and {stream.echoes} "
               f"echoes; {len(stream.problems)} lost, doubled or garbled")
        before, during = _gaps(facts, stream)
        yield (f"              longest silence {before:.0f} ms before the upgrade, "
               f"{during:.0f} ms since")


def _services(facts: Facts) -> Iterable[str]:
    if not facts.before or not facts.after:
        return
    then, now = units(facts.before.status), units(facts.after.status)
    yield f"services      {'':<18}{'policy':<10}{'main process':<16}runs the program of"
    for name, unit in now.items():
        old, new = then.get(name, {}).get("main_pid"), unit.get("main_pid")
        process = f"{new or '-'}" if old == new else f"{old or '-'} -> {new or '-'}"
        generation = unit.get("exe_generation")
        program = f"generation {generation}" if generation is not None else "-"
        yield f"  {name:<30}{unit.get('policy') or '-':<10}{process:<16}{program}"


def _holders(facts: Facts) -> Iterable[str]:
    if not facts.after:
        return
    held: dict[tuple[object, ...], collections.Counter[str]] = {}
    for holder in facts.after.holders:
        who = (holder.get("name") or holder.get("pid"), holder.get("comm"), holder.get("unit"))
        held.setdefault(who, collections.Counter())[str(holder.get("what"))] += 1
    kept = units(facts.after.status)
    yield "old image     " + ("still held by" if held else "no process holds it any more")
    for (pid, comm, unit), what in held.items():
        things = ", ".join(f"{n} {w}" if n > 1 else w for w, n in what.items())
        policy = kept.get(str(unit), {}).get("policy")
        why = f"; {unit}, its policy is {policy}" if policy else ""
        yield f"  {comm} (pid {pid}): {things}{why}"


def _verdict(facts: Facts) -> Iterable[str]:
    found = problems(facts)
    if facts.off_reason == "guest-shutdown" and facts.unclean == {}:
        yield "power-off     clean: every file system unmounted"
    if facts.images_changed == []:
        yield "images        both byte for byte as they were"
    if not found:
        yield "PASSED        nothing failed"
        return
    yield f"FAILED        {len(found)} things are not as they must be"
    yield from (f"  {line}" for line in found[:40])


def progress_line(event: Event) -> str:
    """One event while it happens; "" for what only the report shows."""
    kind = event.get("event")
    if kind == "phase":
        frozen = " (frozen)" if event.get("blackout") else ""
        return f"  {event.get('name')}: {milliseconds(event):.1f} ms{frozen}"
    if kind in ("progress", "warning", "blocker"):
        return f"  {kind}: {event.get('text')}"
    if kind == "result":
        return f"  {event.get('text') or event.get('result')}"
    return ""


def _mib(kib: int) -> str:
    return f"{kib / 1024:.1f} MiB"
