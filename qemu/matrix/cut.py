# SPDX-License-Identifier: MIT
"""The power is cut in the middle of an upgrade, and the machine is switched on again."""

from __future__ import annotations

import json
import threading
import time

from qemu.guest import Guest
from qemu.machine import Machine
from qemu.matrix.stage import UPGRADE, Stage

# A phase is told when it is over, and none while everything is frozen: the one before tells when to
# cut, and how much later, in seconds of an emulated machine. Of the two hooks of the commit it is while
# the second one writes.
AFTER = {"plan": ("", 0.3), "prepare": ("plan", 0.0), "freeze": ("prepare", 0.03),
         "exec": ("thaw", 0.05), "services": ("exec", 0.05), "commit": ("50-boot-default", 0.15)}

# What has not been told when it is cut.
LATER = {"plan": ("plan", "result"), "prepare": ("prepare", "freeze", "result"), "freeze": ("thaw", "result"),
         "exec": ("exec", "result"), "services": ("services", "result"), "commit": ("result",)}

# What is there for sure, and what is being written all the time.
PRECIOUS = "echo precious > /var/precious && sync"
WRITER = ("setsid sh -c 'while :; do echo $((n+=1)) >> /var/log/written; done' </dev/null "
          ">/dev/null 2>&1 & true")


def cut(stage: Stage, phase: str) -> None:
    """Then it boots what is the default on its disk, with what had been written; and is upgraded after
    all."""
    with stage.booted() as (vm, guest):
        stage.new(guest)
        stage.check(guest, f"mkdir -p /var/log && {PRECIOUS} && {WRITER}")
        told = _cut_in(stage, vm, guest, phase)
    assert not told & set(LATER[phase]), f"cut too late: {', '.join(told)} were over"
    with stage.machine() as vm:
        guest = stage.up(vm)
        stage.is_on(guest, "one")
        stage.check(guest, "test $(cat /var/precious) = precious && dmesg | grep -q 'EXT4-fs .*: recovery complete'")
        default = stage.check(guest, "cat /var/default 2>/dev/null || true")
        # The hook that writes it runs when nothing else can go wrong.
        assert default in (("", "two") if phase == "commit" else ("",)), f"the boot default is {default!r}"
        stage.new(guest)
        stage.commit(guest)
        stage.is_on(guest, "two")
        stage.check(guest, "test $(cat /var/default) = two")
        stage.down(vm, guest)


def _cut_in(stage: Stage, vm: Machine, guest: Guest, phase: str) -> set[str]:
    """Returns the phases that had been told to be over."""
    after, seconds = AFTER[phase]
    reached = threading.Event()
    told: set[str] = set()

    def follow(line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if event.get("event") in ("phase", "result"):
            told.add(event.get("name") or "result")
        elif event.get("event") == "hook" and "usec" in event:
            told.add(str(event.get("path")).rpartition("/")[2])
        if after in told or "result" in told:
            reached.set()

    guest.send(f"exec initctl upgrade --json {stage.disks.image}", follow)
    if after:
        assert reached.wait(UPGRADE * stage.slowness), f"the phase {after} was never over"
    time.sleep(seconds)
    vm.cut_power()
    return told
