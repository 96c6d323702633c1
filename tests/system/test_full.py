# SPDX-License-Identifier: MIT
"""Nothing is left: no space, no inode, no descriptor, no process. An upgrade, a rollback, a reexec and a crash of PID 1
end as always all the same, and once there is room again the next one goes through."""
import contextlib
import itertools
import os
import pathlib
import re
import resource
import shutil

import pytest
import trial
from machine import cgroup2_root, wait_until
from test_crash import crash
from trial import SERVICES

pytestmark = pytest.mark.timeout(120)

number = itertools.count()


@pytest.fixture
def subject(tmp_path):
    with trial.Subject(tmp_path) as made:
        trial.run(made)  # the first makes the vault
        yield made


@contextlib.contextmanager
def full(machine, place, what):
    """A tmpfs with not one byte, or not one inode, left."""
    have = os.statvfs(machine.path(place))
    room = {"bytes": f"size={(have.f_blocks - have.f_bfree + 16) * have.f_bsize}",
            "inodes": f"nr_inodes={have.f_files - have.f_ffree + 16}"}
    machine.run("mount", "-o", f"remount,{room[what]}", place)
    ballast = machine.path(place) / "ballast"
    ballast.mkdir()
    if what == "bytes":
        with contextlib.suppress(OSError), open(ballast / "file", "wb", buffering=0) as file:
            while file.write(b"x" * 512):
                pass
    else:
        with contextlib.suppress(OSError):
            for n in itertools.count():
                (ballast / str(n)).touch()
    now = os.statvfs(machine.path(place))
    assert (now.f_bfree if what == "bytes" else now.f_ffree) == 0
    try:
        yield
    finally:
        machine.run("mount", "-o", f"remount,size={have.f_blocks * have.f_bsize},nr_inodes={have.f_files}", place)
        shutil.rmtree(ballast)


@contextlib.contextmanager
def limit(machine, which, value):
    before = resource.prlimit(machine.pid, which)
    resource.prlimit(machine.pid, which, (value, before[1]))
    try:
        yield
    finally:
        resource.prlimit(machine.pid, which, before)


@contextlib.contextmanager
def pids(machine, spare):
    """As many children as that, and not one more; the client is not counted."""
    root = pids_root() / f"molt-test-{os.getpid()}-{next(number)}"
    root.mkdir()
    try:
        (root / "cgroup.procs").write_text(str(machine.pid))
        (root / "pids.max").write_text(str(1 + spare))
        yield root
    finally:
        (root / "pids.max").write_text("max")
        for pid in (root / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (root.parent / "cgroup.procs").write_text(pid)
        wait_until(lambda: not (root / "cgroup.procs").read_text(), 10, "an empty cgroup of the limit")
        root.rmdir()


def pids_root():
    v1 = pathlib.Path("/sys/fs/cgroup/pids")
    return v1 if v1.is_dir() else pathlib.Path(cgroup2_root())


def attempt(subject, code=None):
    before_image, before_pids, target = subject.image(), subject.main_pids(), subject.other()
    got, said = subject.upgrade(target)
    trial.check_after(subject, got, said, before_image, before_pids, target)
    assert code is None or got == code, said
    return got, said


@pytest.mark.parametrize("what", ["bytes", "inodes"])
@pytest.mark.parametrize("place", ["/run", "/var"])
def test_disk(subject, place, what):
    machine = subject.machine
    with full(machine, place, what):
        attempt(subject, 0)
        assert machine.initctl("reexec").returncode == 0
        before = subject.main_pids()
        crash(machine)
        assert subject.main_pids() == before, machine.report()
        attempt(subject, 0)
    attempt(subject, 0)


@pytest.mark.parametrize("place", ["/run", "/var"])
def test_disk_and_the_way_back(tmp_path, place):
    with trial.Subject(tmp_path, AutoCommit="no") as subject:
        machine, first = subject.machine, subject.image()
        with full(machine, place, "bytes"):
            code, said = subject.upgrade(subject.other())
            assert (code, subject.image() == first) == (0, False), said
            back = machine.initctl("rollback", check=False)
            assert "rolled back" in back.stdout, back.stdout
            assert subject.image() == first
        code, said = subject.upgrade(subject.other())
        assert code == 0, said
        machine.initctl("commit")


def test_descriptors(subject):
    """From not one more than PID 1 has open at rest to as many as an upgrade takes."""
    reasons, spare = [], 0
    while True:
        with limit(subject.machine, resource.RLIMIT_NOFILE, trial.descriptors(subject) + spare):
            code, said = attempt(subject)
        reasons.append(said.splitlines()[-1])
        if code == 0:
            break
        spare += 3
        assert spare < 200, reasons
    assert len(reasons) > 5 and any("Too many open files" in reason for reason in reasons), reasons
    for wrong in ("not permitted", "make that directory", "ended without"):
        assert not [reason for reason in reasons if wrong in reason], f"it is the descriptors: {reasons}"
    attempt(subject, 0)


def test_children(subject):
    """Not one more process, one, two: each of PID 1's children is the first that there is no room for."""
    machine, codes = subject.machine, []
    for spare in range(12):
        before_image, before_pids, target = subject.image(), subject.main_pids(), subject.other()
        with pids(machine, spare):
            code, said = subject.upgrade(target)
        codes.append(code)
        if code == 4:  # what runs no more on the old image could not be started there either, and is named
            for name in SERVICES:
                if not subject.machine.service_pids(name):
                    assert f"{name}.service: it did not start again: cannot fork" in said, said
                    machine.initctl("start", name)
            before_pids = subject.main_pids()
        trial.check_after(subject, 1 if code == 4 else code, said, before_image, before_pids, target)
        if code == 0:
            break
    assert codes[0] == 3 and codes[-1] == 0, codes
    attempt(subject, 0)


@pytest.mark.parametrize("lifted", [True, False])
def test_no_process_for_a_service(machine, lifted):
    """It was stopped already: it is tried again for a moment, on the way back as well, and what is down then is told."""
    os.mkfifo(machine.share / "go")
    for image in machine.images.values():
        image.conf(services=["slow.service"])
        image.service("slow", "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=restart\n"
                              "[Service]\nExecStop=/bin/sh -c 'read x </run/share/go'\n")
    machine.start()
    machine.wait_state("slow")
    with pids(machine, 100) as root:
        client = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two", cgroup="client")
        machine.wait_state("slow", "stopping")
        (root / "pids.max").write_text("0")
        (machine.share / "go").write_text("x\n")
        if lifted:
            wait_until(lambda: "cannot fork for /bin/sleep" in machine.log(), what="the limit")
            (root / "pids.max").write_text("max")
        said, _ = client.communicate(timeout=60)
    assert client.returncode == (0 if lifted else 4), said
    assert machine.image() == ("two" if lifted else "one")
    if not lifted:
        assert re.search(r"rolled back: slow.service: .*cannot fork for /bin/sleep \(a limit on processes: .*; "
                         r"but slow.service is down: `initctl start` it once that is mended: ", said), said
        machine.initctl("start", "slow")
    machine.wait_state("slow")
    assert trial.frozen_or_traced(machine) is None
