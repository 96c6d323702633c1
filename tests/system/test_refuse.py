# SPDX-License-Identifier: MIT
"""Upgrades that must be refused before anything is touched: exit code 3, a reason that helps, and nothing changed."""
import ctypes.util
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess

import pytest
from machine import BUILD, Machine, wait_until
from outside import Snapshot, assert_thawed, assert_unchanged, last_word, mount_table
from test_migrate import Holder, own_pids

pytestmark = pytest.mark.timeout(60)

BUSY = 5
SERVICE = "[Service]\nExecStart=/bin/sleep 1000\n"


@pytest.fixture
def laid_out(machine):
    for image in machine.images.values():
        image.conf(services=["a.service"])
        image.service("a", SERVICE)
        image.write("opt/place/file", "")
    return machine


def refused(machine, path, *options):
    """Upgrades to `path`, which must be refused; returns the reason and all that was said."""
    before = Snapshot(machine)
    result = machine.initctl("upgrade", *options, path, check=False, timeout=30)
    assert result.returncode == 3, result.stdout + machine.report()
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("refused: "), result.stdout
    assert_unchanged(machine, before)
    return last, result.stdout


def then_upgrades(machine, image="three"):
    """A refusal leaves nothing behind that would bar the next."""
    code, told = machine.upgrade(image)
    assert (code, last_word(told)) == (0, "committed")


# What the image's init may be

def library_of(name):
    """The file behind a library of molt's, below /."""
    out = subprocess.run(["ldd", BUILD / "molt"], capture_output=True, text=True, check=True).stdout
    line = next(line for line in out.splitlines() if name in line)
    return os.path.realpath(line.split()[2])


def foreign_elf(image):
    """An ELF program of an architecture that this is not."""
    data = bytearray((BUILD / "molt").read_bytes())
    data[18:20] = struct.pack("<H", 243 if os.uname().machine != "riscv64" else 62)
    init(image).write_bytes(data)


def init(image):
    return image.directory / "usr/sbin/init"


def bad_init(answer):
    def lay(image):
        image.copy(BUILD / "tools/badinit", "usr/sbin/init")
        image.write("etc/badinit", answer)
    return lay


def hidden_init(image):
    init(image).unlink()
    init(image).symlink_to("/nowhere")


BAD_INITS = {
    "missing library": (lambda image: image.write(library_of("libinih"), ""), "exit code 127", "libinih"),
    "garbled library": (lambda image: image.write(library_of("libmount"), "garbage" * 99), "exit code 127", "libmount"),
    "script": (lambda image: image.write("usr/sbin/init", "#!/bin/sh\nexit 0\n", 0o755), "no ELF program"),
    "empty": (lambda image: image.write("usr/sbin/init", "", 0o755), "no ELF program"),
    "not executable": (lambda image: init(image).chmod(0o644), "no executable file"),
    "foreign": (foreign_elf, "another architecture"),
    "missing": (hidden_init, "/sbin/init", "No such file"),
    "any program that ends well": (lambda image: image.copy("/bin/true", "usr/sbin/init"), "is not molt"),
    "says no": (bad_init("no"), "exit code 1", "it is too cold in here"),
    "crashes": (bad_init("crash"), "killed by SIGSEGV"),
    "no initctl": (lambda image: (image.directory / "usr/bin/initctl").unlink(), "no initctl"),
}


@pytest.mark.parametrize("how", BAD_INITS)
def test_init_that_cannot_take_over(tmp_path, how):
    spoil, *words = BAD_INITS[how]
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        spoil(machine.images["two"])
        machine.start()
        reason, _ = refused(machine, "/run/images/two")
        for word in words:
            assert word in reason, reason
        then_upgrades(machine)


@pytest.mark.parametrize("there,missing,told", [
    (rb"/ld-linux-[a-z0-9_-]+\.so\.(\d)\0", b"9", "the loader that it asks for, /lib"),
    (rb"\0libinih\.so\.(\d)\0", b"9", "libinih.so.9"),
], ids=["loader", "library"])
def test_image_without_libraries(machine, there, missing, told):
    """Which one it is, and not only that there is no such file."""
    init = machine.images["two"].place("usr/sbin/init")
    program = init.read_bytes()
    found = re.search(there, program)
    init.write_bytes(program[:found.start(1)] + missing + program[found.end(1):])
    machine.start()
    reason, _ = refused(machine, "/run/images/two")
    assert "the image's init could not take over" in reason and told in reason and ".so.9" in reason, reason


def test_init_that_does_not_answer(tmp_path):
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        bad_init("hang")(machine.images["two"])
        machine.images["one"].conf(Upgrade={"CheckTimeoutSec": "300ms"})
        machine.start()
        reason, _ = refused(machine, "/run/images/two")
        assert "did not say within 300 ms" in reason
        # and nobody is left to wait for
        wait_until(lambda: [pid for pid in children(machine.pid) if "--check-state" in command_line(pid)] == [],
                   what="the end of the init that hangs")
        then_upgrades(machine)


def children(pid):
    return [int(p) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and parent(p) == pid for p in [p.name]]


def parent(directory):
    try:
        return int((directory / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


# What the image's configuration may be

CONFIGURATIONS = {
    "init.conf": ("etc/molt/init.conf", "[Upgrade]\nFreezeTimeoutSec=tomorrow\n", "init.conf:2", "FreezeTimeoutSec"),
    "drop-in": ("etc/molt/init.conf.d/x.conf", "[Upgrade]\nAutoCommit=perhaps\n", "x.conf:2", "AutoCommit"),
    "running service": ("etc/molt/system/a.service", "[Service]\nType=strange\nExecStart=/bin/true\n", "a.service",
                        "Type"),
    "no program": ("etc/molt/system/a.service", "[Service]\nRestart=no\n", "a.service", "ExecStart"),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_bad_configuration(tmp_path, what):
    path, text, *words = CONFIGURATIONS[what]
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        for image in machine.images.values():
            image.conf(services=["a.service"])
            image.service("a", SERVICE)
        machine.images["two"].write(path, text)
        machine.start()
        machine.wait_state("a")
        reason, _ = refused(machine, "/run/images/two")
        for word in words:
            assert word in reason, reason
        then_upgrades(machine)


# What the path may be

def test_path_that_is_no_image(laid_out):
    machine = laid_out
    machine.start()
    machine.run("sh", "-c", "touch /run/file")
    for path, word in (("/run/file", "is empty"), ("/run/none", "No such file"), ("/run", "/sbin/init")):
        reason, _ = refused(machine, path)
        assert word in reason, reason
    then_upgrades(machine, "two")


def test_relative_path_is_the_clients(laid_out):
    """initctl makes it absolute: PID 1's own working directory is nobody's business."""
    machine = laid_out.start()
    machine.run("sh", "-c", "cd /run && exec initctl upgrade images/two")
    assert machine.image() == "two"


def test_mount_point_missing_in_the_image(laid_out):
    machine = laid_out
    machine.images["one"].write("data/here", "")
    machine.start()
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/data")
    reason, _ = refused(machine, "/run/images/two")
    assert "/data" in reason and "make that directory" in reason
    machine.run("umount", "/data")
    then_upgrades(machine, "two")


def test_mount_point_missing_in_an_image_that_can_be_written_to(tmp_path):
    """It is made, a directory or a file as the mount has it; not by a plan, which says that it would be."""
    with Machine(tmp_path, writable=("two",), shared=True) as machine:
        for place in ("data/deep/here", "data/file"):
            machine.images["one"].write(place, "")
        machine.start()
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/data/deep")
        machine.run("mount", "--bind", "/run/console", "/data/file")
        machine.popen("unshare", "-m", "sleep", "1000")
        wait_until(lambda: len({os.stat(f"/proc/{pid}/ns/mnt").st_ino for pid in machine.pids()}) > 1, what="a namespace")
        for _ in range(2):
            actions = {m["path"]: m["action"] for m in machine.json("plan", "/run/images/two")["mounts"]}
            assert actions["/data/deep"] == actions["/data/file"] == "make" and actions["/run"] == "move"
        text = machine.initctl("plan", "/run/images/two").stdout
        assert "make" in text and "/data/deep" in text, text
        then_upgrades(machine, "two")
        assert {"/data/deep", "/data/file"} <= {point for _, point in mount_table(machine).values()}
        machine.run("umount", "/data/deep", "/data/file")
        assert machine.run("stat", "-c", "%F %a %u", "/data/deep", "/data/file").stdout.splitlines() == [
            "directory 755 0", "regular empty file 644 0"]


# Blockers

@pytest.fixture
def writable(tmp_path):
    with Machine(tmp_path, writable=("one",)) as machine:
        for image in machine.images.values():
            image.write("opt/place/file", "")
        yield machine


def test_open_file_blocks_and_is_named(writable):
    machine = writable.start()
    holder = Holder(machine, "writer", place="/opt/place")
    pid = holder.pids()[0]
    fd = next(fd for fd in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{fd}").endswith("data"))
    reason, said = refused(machine, "/run/images/two")
    for word in (f"process {own_pids(pid)[-1]} ", "(holder)", "/opt/place/data", f"(fd {fd})"):
        assert word in reason, said
    plan = machine.json("plan", "/run/images/two", check=False)
    assert any("/opt/place/data" in str(blocker) for blocker in plan["blockers"]), plan
    code, told = machine.upgrade("two", "--force")
    assert (code, last_word(told)) == (0, "committed")
    assert machine.image() == "two" and holder.verdict() == "ok"
    assert "forced in spite of" in machine.log()


def test_blocker_that_closes_its_file(writable):
    """Once the file is closed nothing is in the way; a file that has no name any more never was."""
    machine = writable.start()
    holder = Holder(machine, "writer", place="/opt/place")
    refused(machine, "/run/images/two")
    machine.run("rm", "/opt/place/data")
    machine.upgrade("two")
    assert machine.image() == "two" and holder.verdict() == "ok"


# Others who meddle

def test_second_upgrade_is_told_busy(tmp_path):
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        bad_init("hang")(machine.images["two"])
        machine.images["one"].conf(Upgrade={"CheckTimeoutSec": "2s"})
        machine.start()
        first = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two", cgroup="first")
        wait_until(lambda: any("--check-state" in command_line(pid) for pid in all_below(machine.pid)),
                   what="the first upgrade under way")
        for verb in (("upgrade", "/run/images/three"), ("plan", "/run/images/three"), ("reexec",)):
            result = machine.initctl(*verb, check=False)
            assert result.returncode == BUSY and "busy" in result.stdout, (verb, result)
        output, _ = first.communicate(timeout=20)
        assert first.returncode == 3, output
        then_upgrades(machine)


def all_below(pid):
    found = children(pid)
    return found + [deeper for child in found for deeper in all_below(child)]


@pytest.mark.parametrize("moment", range(6))
def test_initctl_killed_in_the_middle(laid_out, moment):
    """Whoever asked may go away: the upgrade goes on and ends as it would have."""
    machine = laid_out.start()
    machine.wait_state("a")
    client = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two", cgroup="client")
    for _ in range(moment):
        if not client.stdout.readline():
            break
    for pid in (machine.cgroup / "tree/client/cgroup.procs").read_text().split():
        if len(own_pids(pid)) > 1:
            os.kill(int(pid), signal.SIGKILL)
    client.communicate(timeout=10)
    if moment:
        wait_until(lambda: "upgrade: committed" in machine.log(), what="the end of the upgrade")
        assert machine.image() == "two", machine.report()
    # Killed so early that nobody knows whether it had asked: then the upgrade may be under way still.
    wait_until(lambda: machine.upgrade("one", check=False)[0] != BUSY, what="an upgrade that is not told busy")
    assert_thawed(machine)
    then_upgrades(machine, "two")


def test_only_root_may(laid_out):
    machine = laid_out.start()
    before = Snapshot(machine)
    shutil.copy2(BUILD / "initctl", machine.share / "initctl")
    result = machine.run("setpriv", "--reuid=65534", "--clear-groups", "/run/share/initctl", "upgrade",
                         "/run/images/two", check=False)
    assert result.returncode == 6, result.stdout
    assert_unchanged(machine, before)
