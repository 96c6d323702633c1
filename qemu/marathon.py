# SPDX-License-Identifier: MIT
"""One upgrade after the other between two images, in one boot: nothing fails and nothing adds up.

PID 1's descriptors, memory and mappings, the mounts, and the cgroups are counted when both images
have had their turn, and again at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from qemu import scenario
from qemu.guest import Guest
from qemu.machine import Machine
from qemu.progress import step
from qemu.upgrade import upgrade

DISKS = ("/dev/nvme0n1", "/dev/nvme0n2")
UPGRADE_TIMEOUT = 240.0
DRAIN_TIMEOUT = 60.0
MARGIN_KIB = 64

# Mounted elsewhere, an image that nobody runs stays in memory: to load it anew each time takes an
# emulated machine longest.
KEEP_LOADED = "mkdir -p /run/n1 /run/n2 && mount -o ro {} /run/n1 && mount -o ro {} /run/n2"

# Memory by smaps_rollup, which counts pages: status counts in batches, and the files' pages as well.
COUNT = """set -- /proc/1/fd/*; echo descriptors $#
set -- $(grep ^Anonymous: /proc/1/smaps_rollup); echo KiB of memory $2
set -- $(grep ^VmData: /proc/1/status); echo KiB of address space for it $2
echo mappings $(wc -l < /proc/1/maps)
echo mounts $(wc -l < /proc/1/mountinfo)
echo cgroups $(find /sys/fs/cgroup -type d | wc -l)"""

# What a count alone does not tell.
NAMES = "find /sys/fs/cgroup/molt /sys/fs/cgroup -type d 2>/dev/null | sort -u; ls -l /proc/1/fd; initctl status; tail -40 /run/molt/init.log"


def marathon(vm: Machine, guest: Guest, upgrades: int = 20) -> None:
    """Begins with nothing on /new, on either image; raises AssertionError."""
    running = DISKS.index(guest.check("findmnt --noheadings --output SOURCE /"))
    guest.check(KEEP_LOADED.format(*DISKS))
    load = scenario.begin_load(vm, clients=1, pause=0.25)
    try:
        _run(guest, running, 2)
        early = _count(guest)
        _run(guest, running, upgrades - 2)
        _wait_for_no_growth(guest, early)
    finally:
        stats = load.stop()
    assert not stats.problems, "\n".join(stats.problems)
    assert [s.still_open for s in stats.streams] == [s.clients for s in stats.streams]


def marathon_alone(guest: Guest, upgrades: int, disks: Sequence[str]) -> None:
    """The same without clients, from the first of the disks."""
    guest.check(KEEP_LOADED.format(*disks))
    _run(guest, 0, 2, disks)
    early = _count(guest)
    _run(guest, 0, upgrades - 2, disks)
    _wait_for_no_growth(guest, early)


def _run(guest: Guest, running: int, times: int, disks: Sequence[str] = DISKS) -> None:
    """An even number of times, so that the same image runs afterwards."""
    with step(f"{times} upgrades"):
        for number in range(times):
            running = 1 - running
            guest.check(f"mount -o ro {disks[running]} /new")
            done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
            assert (done.code, done.text) == (0, "committed"), f"upgrade {number + 1}: {done}"


def _wait_for_no_growth(guest: Guest, early: dict[str, int]) -> None:
    """What the last upgrade replaced may take a moment to drain."""
    deadline = time.monotonic() + DRAIN_TIMEOUT
    while growth := _growth(early, late := _count(guest)):
        assert time.monotonic() < deadline, f"{growth}: {early} -> {late}\n{guest.check(NAMES)}"


def _count(guest: Guest) -> dict[str, int]:
    lines = guest.check(COUNT).splitlines()
    return {name: int(number) for name, _, number in (line.rpartition(" ") for line in lines)}


def _growth(early: dict[str, int], late: dict[str, int]) -> str:
    """What has grown, in words; "" if nothing has."""
    grown = [f"{name} from {was} to {late[name]}" for name, was in early.items()
             if late[name] > was + (MARGIN_KIB if "KiB" in name else 0)]
    return f"grown: {', '.join(grown)}" if grown else ""
