# SPDX-License-Identifier: MIT
"""A tree that will not stand still: refused with the name of who it is and what that waits for, thawed, nothing else
harmed; or it does not matter, and the upgrade goes through."""
import pathlib
import re
import threading
import time

import pytest
import trial
from daemons import FUSE, Daemon
from machine import wait_until
from outside import events, stragglers
from test_migrate import Holder, own_pids

pytestmark = pytest.mark.timeout(60)

@pytest.fixture
def subject(tmp_path):
    with trial.Subject(tmp_path, FreezeTimeoutSec="300ms") as made:
        trial.run(made)
        yield made


def attempt(subject, code=None):
    before_image, before_pids, target = subject.image(), subject.main_pids(), subject.other()
    got, said = subject.upgrade(target)
    trial.check_after(subject, got, said, before_image, before_pids, target)
    assert code is None or got == code, said
    return said


def end(machine, process, *cgroups):
    for cgroup in cgroups:
        (machine.cgroup / "tree" / cgroup / "cgroup.kill").write_text("1")
    process.kill()
    process.communicate(timeout=10)


def hang(subject, inside):
    (subject.machine.share / "hang").mkdir(exist_ok=True)
    daemon = Daemon(subject.machine, FUSE, "/run/share/hang", "hang", inside=inside)
    subject.places = subject.mounts()
    return daemon


@pytest.mark.parametrize("inside", [True, False], ids=["daemon of the tree", "daemon beyond"])
def test_file_system_that_hangs(subject, inside):
    machine = subject.machine
    daemon = hang(subject, inside)
    waiter = machine.popen("/usr/bin/stat", "/run/share/hang/x", cgroup="waiter")
    daemon.asked()
    for _ in range(2):
        said = attempt(subject, 3)
        assert re.search(r"did not freeze within 300 ms: \d+ \(stat, of waiter\) is in syscall \d+ at \w+", said), said
        assert "freeze " in said and not re.search(r"thaw +\d{3}", said), f"time of the freeze: {said}"
    end(machine, daemon.process, daemon.cgroup)
    waiter.communicate(timeout=10)  # nobody answers it any more: an error
    machine.run("umount", "/run/share/hang")
    subject.places = subject.mounts()
    attempt(subject, 0)


def test_parent_that_stays_in_vfork(tmp_path):
    """It is tried again for a while, not for long, and most of that while everything runs."""
    with trial.Subject(tmp_path, RetryTimeoutSec="1s") as subject:
        trial.run(subject)
        holder = Holder(subject.machine, "vfork", "60000")
        frozen = FrozenShare(subject.machine)
        said = attempt(subject, 3)
        share = frozen.end()
        told = re.search(r"refused: task \d+ \(holder\) waits in vfork\(2\) for its child.*; "
                         r"tried (\d+) times in (\d\.\d) s \(RetryTimeoutSec=\)", said)
        assert told and 1.0 <= float(told[2]) < 3 and int(told[1]) > 5, said
        assert share < 0.6, share
        end(subject.machine, holder.process, holder.cgroup)
        attempt(subject, 0)


class FrozenShare(threading.Thread):
    """Of the time between the first and the last freeze, how much the tree was frozen."""

    def __init__(self, machine):
        super().__init__()
        self.path, self.over, self.seen = machine.cgroup / "tree", False, []
        self.start()

    def run(self):
        while not self.over:
            self.seen.append(events(self.path)["frozen"])
            time.sleep(0.001)

    def end(self):
        self.over = True
        self.join()
        first, last = self.seen.index(1), len(self.seen) - self.seen[::-1].index(1)
        return sum(self.seen[first:last]) / (last - first)


def test_the_way_back_waits_for_a_parent_in_vfork(tmp_path):
    """Much longer than the way up would, with time to breathe in between."""
    with trial.Subject(tmp_path, RetryTimeoutSec="500ms", AutoCommit="no") as subject:
        machine, first = subject.machine, subject.image()
        code, said = subject.upgrade(subject.other())
        assert code == 0, said
        holder = Holder(machine, "vfork", "60000")
        since = time.monotonic()
        back = machine.popen("/usr/bin/initctl", "rollback")
        wait_until(lambda: machine.log().count("cannot roll back yet") == 12, 30, "the twelfth try")
        assert time.monotonic() - since >= 5.5 and subject.image() != first
        end(machine, holder.process, holder.cgroup)
        said, _ = back.communicate(timeout=20)
        assert "rolled back" in said and subject.image() == first, said
        assert trial.frozen_or_traced(machine) is None


def test_traced_by_strace(subject):
    """Whoever is traced already cannot be moved: it stays, is named, and goes on; nobody else is kept back."""
    machine = subject.machine
    held = subject.holders[0]
    host, inside = held.pids()[0], own_pids(held.pids()[0])[-1]
    tracer = machine.popen("/usr/bin/strace", "-qq", "-f", "-o", "/dev/null", "-p", str(inside), cgroup="tracer")
    wait_until(lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{host}/status").read_text(), what="strace")
    target = subject.other()
    code, said = subject.upgrade(target)
    assert code == 0 and subject.image() == target, said
    assert re.search(rf"task {inside}\b.*is already traced", machine.log()), machine.log()
    left = {pid for link, _, _ in stragglers(machine, fds=True) for pid in [int(link.split("/")[2])]}
    assert left == {host}, left
    end(machine, tracer, "tracer")
    assert "is on another mount" in held.verdict()  # and nothing else is wrong with it
    subject.holders.remove(held)
    attempt(subject, 0)


def test_forks_without_end(subject):
    """One process that makes the next and ends, again and again: never is there one to wait for."""
    machine = subject.machine
    chain = machine.popen("/usr/bin/perl", "-e", "$| = 1; print qq(x\\n); for (;;) { exit 0 if fork }", cgroup="chain")
    assert chain.stdout.readline() == "x\n"
    for _ in range(5):
        attempt(subject, 0)
    procs = machine.cgroup / "tree/chain/cgroup.procs"
    assert procs.read_text(), "it is there still"
    end(machine, chain, "chain")


def test_many_threads(subject):
    code = ("import threading, time\nfor _ in range(500): threading.Thread(target=time.sleep, args=(1000,)).start()\n"
            "print('ready', flush=True)")
    process = subject.machine.popen("/usr/bin/python3", "-c", code,
                                    cgroup="many")
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        attempt(subject, 0)
    end(subject.machine, process, "many")
