# SPDX-License-Identifier: MIT
"""Other mount namespaces than PID 1's: swapped with it where their root is the image, left alone where it is not.

Mount tables are compared as /proc/PID/mountinfo has them, with the numbers of mounts and of propagation groups replaced
by what they stand for.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess

import pytest
from machine import BUILD, mount_id
from outside import assert_thawed, last_word
from test_migrate import PLACE, Holder, lay_out

pytestmark = pytest.mark.timeout(90)

PROPAGATIONS = ["private", "slave", "shared", "unchanged"]


def ns_of(pid):
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def mountinfo(pid):
    """[(id, parent, root, point, {"shared": n, "master": n}, fstype)]"""
    found = []
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        dash = fields.index("-")
        groups = {f.partition(":")[0]: int(f.partition(":")[2] or 0) for f in fields[6:dash]}
        found.append((int(fields[0]), int(fields[1]), fields[3], fields[4], groups, fields[dash + 1]))
    return found


def tables(*pids):
    """The mounts of each process's namespace: where, on what, of what, in which groups (numbered as they come)."""
    numbers = {}
    result = []
    for pid in pids:
        mounts = mountinfo(pid)
        points = {m[0]: m[3] for m in mounts}
        lines = []
        for _, parent, root, point, groups, fstype in sorted(mounts, key=lambda m: (m[3], m[1] in points, m[2], m[5])):
            if "/run/molt/vault" in point:
                continue
            named = {key: numbers.setdefault(n, len(numbers)) for key, n in sorted(groups.items())
                     if key in ("shared", "master")}
            lines.append((point, points.get(parent), root, fstype, tuple(named.items())))
        result.append(lines)
    return result


class Shell(Holder):
    """A subject in a mount namespace of its own."""

    def __init__(self, machine, subject, *unshare, place=PLACE, name=None):
        self.machine = machine
        self.cgroup = f"shells/{name or subject}-{len(machine.shells)}"
        machine.shells.append(self)
        if not (machine.share / "holder").exists():
            shutil.copy2(BUILD / "tools/holder", machine.share / "holder")
        # The shell stays beside it: a namespace with nobody but a prisoner shows no mounts.
        self.process = machine.popen("unshare", *(unshare or ("-m",)), "sh", "-c", f"/run/share/holder {subject} {place}; :",
                                     cgroup=self.cgroup, stdin=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line == "ready\n", line + self.process.stdout.read()

    @property
    def pid(self):
        return next(pid for pid in self.pids() if ns_of(pid) != ns_of(self.machine.pid))

    def release(self):
        """What the namespace's root says it is."""
        text = pathlib.Path(f"/proc/{self.pid}/root/etc/os-release").read_text()
        return text.partition('VERSION_ID="')[2].partition('"')[0]


def lost(machine):
    """Roots, cwds and directories that processes hold and that are on no mount of their namespaces."""
    seen, found = {}, []
    pids = machine.pids()
    for pid in pids + [machine.pid]:
        with contextlib.suppress(OSError):
            seen.setdefault(ns_of(pid), set()).update(m[0] for m in mountinfo(pid) if "/run/molt/vault" not in m[3])
    for pid in pids:
        with contextlib.suppress(OSError):
            links = [f"/proc/{pid}/root", f"/proc/{pid}/cwd"]
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
            found += [(link, os.readlink(link)) for link in links
                      if os.path.isdir(link) and mount_id(link) not in seen[ns_of(pid)]]
    return found


@pytest.fixture
def shared(tmp_path):
    """A machine whose mounts are all shared, as systemd has them."""
    from machine import Machine
    with Machine(tmp_path, shared=True) as machine:
        machine.shells = []
        lay_out(machine)
        yield machine


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_swapped_with_all_they_hold(shared, propagation):
    """What stands in them, directory descriptors and jails included, is on the new image; and their mounts are as before."""
    machine = shared.start()
    shells = [Shell(machine, subject, "-m", "--propagation", propagation) for subject in ("cwd", "fds", "jail")]
    pids = [machine.pid] + [s.pid for s in shells[:2]]
    before = tables(*pids)
    for image in ("two", "one", "two"):
        code, told = machine.upgrade(image)
        assert (code, last_word(told)) == (0, "committed")
        assert {s.release() for s in shells[:2]} == {image}
        assert lost(machine) == [], machine.report()
        assert tables(*pids) == before
        assert_thawed(machine)
    assert [s.verdict() for s in shells] == ["ok"] * 3, machine.report()
