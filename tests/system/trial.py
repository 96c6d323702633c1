# SPDX-License-Identifier: MIT
"""One upgrade that something happens to, and what must be true after it: one of two things.

Either the old image with everything as before, or the new image complete; everything thawed, nothing traced, and a
reason printed.
"""
import contextlib
import os
import pathlib

from machine import Machine, mount_id, wait_until
from outside import VAULT, comm, events, mount_table, stragglers
from seam import Seam
from test_migrate import Holder, lay_out

UNREACHABLE = 8

RESTARTED = "[Service]\nExecStart=/bin/sleep infinity\n[Upgrade]\nPolicy=restart\n"
KEPT = "[Service]\nExecStart=/bin/sleep infinity\n[Upgrade]\nPolicy=keep\n"
HANDED_OVER = "[Socket]\nListenStream=/run/handed.sock\n[Service]\nExecStart=/bin/sleep infinity\n[Upgrade]\nPolicy=handover\n"
SERVICES = {"restarted": RESTARTED, "kept": KEPT, "handed": HANDED_OVER}


class Subject:
    """A machine with services and holders, upgraded from one image to the other and back, again and again."""

    def __init__(self, tmp, **upgrade):
        self.machine = Machine(tmp, shared=True)
        lay_out(self.machine)
        for image in self.machine.images.values():
            image.conf(services=SERVICES, Upgrade=upgrade, Manager={"CrashLoopSec": 0})
            for name, text in SERVICES.items():
                image.service(name, text)
        self.seam = Seam(self.machine)

    def __enter__(self):
        self.machine.start()
        for name in SERVICES:
            self.machine.wait_state(name)
        self.holders = [Holder(self.machine, kind) for kind in ("fds", "jail", "fsthread")]
        self.places = self.mounts()
        self.spent = False  # somebody was left on an old image, on purpose: no further trial can tell
        return self

    def __exit__(self, *_):
        self.machine.stop()

    def mounts(self):
        """What is mounted where a process can see it, and how it propagates."""
        found = []
        for line in open(f"/proc/{self.machine.pid}/mountinfo"):
            fields = line.split()
            if not fields[4].startswith(VAULT.rstrip("/")):
                shared = any(f.startswith("shared:") for f in fields[6:fields.index("-")])
                found.append((fields[4], "shared" if shared else "private"))
        return sorted(found)

    def image(self):
        """Of PID 1's root: which of the two it is."""
        text = self.machine.path("/etc/os-release").read_text()
        return text.partition('VERSION_ID="')[2].partition('"')[0]

    def other(self):
        return next(name for name in self.machine.images if name != self.image())

    def main_pids(self):
        return {name: self.machine.service_pids(name) for name in SERVICES}

    def client_pids(self):
        """Of every initctl that runs in the machine."""
        return [pid for pid in self.machine.pids() if comm(pid) == "initctl"]

    def root_id(self):
        return mount_id(f"/proc/{self.machine.pid}/root")

    def on_root(self, pid):
        with contextlib.suppress(OSError):
            return mount_id(f"/proc/{pid}/exe") == self.root_id()
        return False

    def upgrade(self, target, *options):
        result = self.machine.initctl("upgrade", *options, f"/run/images/{target}", check=False, timeout=30)
        return result.returncode, result.stdout.strip()


def frozen_or_traced(machine):
    """What is wrong with the tree, as words; nothing is."""
    for directory in machine.cgroups():
        with contextlib.suppress(OSError):
            if (directory / "cgroup.freeze").read_text().strip() != "0":
                return f"{directory} is to be frozen"
            if events(directory)["frozen"]:
                return f"{directory} is frozen"
    for pid in (machine.pid, *machine.pids()):
        with contextlib.suppress(OSError):
            if "TracerPid:\t0" not in pathlib.Path(f"/proc/{pid}/status").read_text():
                return f"process {pid} ({comm(pid)}) is traced"
    return None


def settled(subject, name, old):
    """Its processes, once there is exactly the one it is to have: of before, or of this image."""
    def one():
        pids = subject.machine.service_pids(name)
        return len(pids) == 1 and (pids == old or subject.on_root(pids[0]))

    wait_until(one, 10, f"{name} as before, or on the image that runs: {old} {subject.machine.service_pids(name)}")


def nobody_left(subject, code, said):
    """Everybody is on the image that runs. What is left on purpose (somebody cannot be traced) is named."""
    left = []

    def none():
        left[:] = stragglers(subject.machine, fds=True)
        return not left or "not moved" in said

    try:
        wait_until(none, 5)
        subject.spent = bool(left)
    except AssertionError:
        raise AssertionError(f"left behind after exit code {code}: {left}\n{said}") from None


def check_after(subject, code, said, before_image, before_pids, target):
    """Either outcome, whole; raises AssertionError otherwise."""
    machine = subject.machine
    assert said, "no word about how it ended"
    wait_until(lambda: frozen_or_traced(machine) is None, 10, frozen_or_traced(machine) or "?")
    now = subject.image()
    if code == UNREACHABLE:  # PID 1 could not talk to the client; what it did it did wholly
        code = 0 if now == target else 3
    assert now == (target if code == 0 else before_image), f"{now} after exit code {code}: {said}"
    mounts = subject.mounts()
    assert mounts == subject.places, f"other mounts after exit code {code}: {set(mounts) ^ set(subject.places)}\n{said}"
    wait_until(lambda: not [p for _, p in mount_table(machine).values() if p.startswith(VAULT)], 10,
               "an empty vault")
    nobody_left(subject, code, said)
    for name in SERVICES:
        if code == 0 and name != "kept":
            wait_until(lambda name=name: any(map(subject.on_root, machine.service_pids(name))), 10,
                       f"{name} on the new image")
        if code == 0 and name == "kept":
            pids = machine.service_pids(name)
            assert pids == before_pids[name], f"{name} was to be kept: {pids}, and {before_pids[name]} before"
        if code == 3:
            assert machine.service_pids(name) == before_pids[name], f"{name} after a refusal"
        settled(subject, name, before_pids[name])


def run(subject, *arming, **how):
    """One upgrade with the seam armed so. Returns whether it came to the call that was meant, and the exit code."""
    before_image, before_pids, target = subject.image(), subject.main_pids(), subject.other()
    subject.seam.arm(*arming, **how)
    try:
        code, said = subject.upgrade(target)
    finally:
        subject.seam.disarm()
    check_after(subject, code, said, before_image, before_pids, target)
    # The guard execs an init in PID 1 without our environment, and so without the seam.
    subject.spent = subject.spent or subject.seam.page.count == 0
    return subject.seam.hit, code, said


def descriptors(subject):
    return len(os.listdir(f"/proc/{subject.machine.pid}/fd"))
