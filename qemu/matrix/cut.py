# SPDX-License-Identifier: MIT
"""The power is cut in the middle of an upgrade, and the machine is switched on again."""

from __future__ import annotations

import json
import threading
import time

from qemu.guest import Guest
from qemu.machine import Machine
from qemu.matrix.stage import UPGRADE, Stage
from qemu.matrix.system import DEFAULT, VERSIONS

# A phase is told when it is over, and none while everything is frozen: the one before tells when to
# cut, and how much later, in seconds of an emulated machine; a quick one is tried again, with less. Of
# the two hooks of the commit it is while the second one writes.
AFTER = {"plan": ("", 0.3), "prepare": ("plan", 0.0), "freeze": ("prepare", 0.03),
         "exec": ("thaw", 0.05), "services": ("exec", 0.05), "commit": ("50-boot-default", 0.15),
         "committed": ("result", 0.0)}

# What has not been told when it is cut.
LATER = {"plan": ("plan", "result"), "prepare": ("prepare", "freeze", "result"), "freeze": ("thaw", "result"),
         "exec": ("exec", "result"), "services": ("services", "result"), "commit": ("result",),
         "committed": ()}

# What can be the boot default then. The hook that writes it runs when nothing else can go wrong.
DEFAULTS = {"commit": ("", "two"), "committed": ("two",)}

# What is there for sure, and what is being written all the time.
PRECIOUS = "echo precious > /var/precious && sync"
WRITER = ("setsid sh -c 'while :; do echo $((n+=1)) >> /var/log/written; done' </dev/null "
          ">/dev/null 2>&1 & true")


def cut(stage: Stage, phase: str) -> None:
    """Then it boots what is the default on its disk, as a boot loader does, with what had been written;
    and is upgraded to the other image after all."""
    after, seconds = AFTER[phase]
    for later in (seconds, seconds / 3, 0.0):
        with stage.booted() as (vm, guest):
            stage.new(guest)
            stage.check(guest, f"mkdir -p /var/log && {PRECIOUS} && {WRITER}")
            told = _cut_after(stage, vm, guest, after, later)
        too_late = told & set(LATER[phase])
        if not too_late:
            break
        stage.start_over()
    assert not too_late, f"cut too late, however early: {', '.join(too_late)} were over"
    default = stage.on_disk("var", DEFAULT).strip()
    assert default in DEFAULTS.get(phase, ("",)), f"the boot default is {default!r}"
    version = default or VERSIONS[0]
    other = next(v for v in VERSIONS if v != version)
    with stage.machine(root=stage.root_of(version)) as vm:
        guest = stage.up(vm)
        stage.is_on(guest, version)
        stage.check(guest, "test $(cat /var/precious) = precious && dmesg | grep -q 'EXT4-fs .*: recovery complete'")
        stage.new(guest, other)
        stage.commit(guest)
        stage.is_on(guest, other)
        stage.down(vm, guest)
    assert stage.on_disk("var", DEFAULT).strip() == other


def _cut_after(stage: Stage, vm: Machine, guest: Guest, after: str, seconds: float) -> set[str]:
    """Returns the phases that had been told to be over."""
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
