# SPDX-License-Identifier: MIT
"""Devices of fstab that come once the boot has given them up: mounted then, with the services that wait for them."""
import errno
import os
import pathlib
import signal

import pytest
from helpers import FOREVER, down, start, stop, wait_log
from machine import Machine, wait_until
from seam import COUNT, FAIL, Seam

LATE = "x-systemd.device-timeout=50ms"
FSTAB = f"""/dev/shm/disk/data /srv slow nofail,{LATE} 0 2
tmpfs /srv/below tmpfs nofail 0 0
/dev/shm/other /mnt slow nofail,{LATE} 0 0
"""
# Not of a kind that any kernel knows: it notes that it was asked, and mounts something.
MOUNT = """#!/bin/sh
[ -b "$1" ] || exit 32
echo "$2" >>/run/share/mounted
mount -i -t tmpfs tmpfs "$2" -o mode=0755 && mkdir "$2/below"
"""
FSCK = """#!/bin/sh
echo "$*" >>/run/share/fsck
[ "$(cat /run/share/code)" = 0 ] || echo broken
exit "$(cat /run/share/code)"
"""


@pytest.fixture
def machine(tmp_path):
    """Two disks that are not there, a mount below one of them, a service on each, and one that needs neither."""
    with Machine(tmp_path) as machine:
        for image in machine.images.values():
            image.conf(services=["free.service", "data.service", "other.service"], Manager={"CrashLoopSec": "0"})
            image.write("etc/fstab", FSTAB)
            image.write("usr/sbin/mount.slow", MOUNT, 0o755)
            image.write("usr/sbin/fsck", FSCK, 0o755)
            image.write("usr/sbin/fsck.slow", "", 0o755)  # there is one: it is asked for by fsck
            image.service("free", f"[Service]\nExecStart={FOREVER}\n")
            image.service("data", "[Unit]\nRequiresMountsFor=/srv/below/x\n[Service]\nType=exec\n"
                                  "ExecStartPre=/bin/mountpoint -q /srv/below\n" + f"ExecStart={FOREVER}\n")
            image.service("other", "[Unit]\nRequires=mnt.mount\nAfter=mnt.mount\n[Service]\nType=exec\n"
                                   "ExecStartPre=/bin/mountpoint -q /mnt\n" + f"ExecStart={FOREVER}\n")
        (machine.share / "code").write_text("0\n")
        yield machine


def boot(machine):
    machine.start()
    machine.wait_state("free")
    for name in ("data", "other"):
        machine.wait_state(name, "waiting")
    return machine


def plug(machine, name):
    """By a rename, as udev makes links, in a directory that may not be there either."""
    place = pathlib.PurePosixPath("/dev/shm") / name
    machine.run("sh", "-c", f"mkdir -p {place.parent} && mknod /dev/shm/tmp b 7 0 && mv /dev/shm/tmp {place}")


def unplug(machine, name):
    machine.run("rm", "-r", f"/dev/shm/{name}")


def mounts(machine):
    return [line.split()[1] for line in pathlib.Path(f"/proc/{machine.pid}/mounts").read_text().splitlines()]


def listeners(machine):
    """What PID 1 has open to hear of devices: nothing where none is missing."""
    return len([fd for fd in pathlib.Path(f"/proc/{machine.pid}/fd").iterdir() if "inotify" in os.readlink(fd)])


def asked(machine, name="mounted"):
    return (machine.share / name).read_text().split("\n")[:-1] if (machine.share / name).exists() else []


def test_mounted_when_it_appears(machine):
    boot(machine)
    assert machine.json("status")["system"]["state"] == "running"
    assert "waiting for /dev/shm/disk/data, to be mounted on /srv" in machine.unit("data")["result"]
    assert "tmpfs on /srv/below is left for later" in machine.log(), machine.report()
    assert listeners(machine) == 1
    plug(machine, "disk/data")
    machine.wait_state("data")
    assert {"/srv", "/srv/below"} <= set(mounts(machine)) and "/mnt" not in mounts(machine)
    assert asked(machine, "fsck")[-1:] == ["-T /dev/shm/disk/data -a"], machine.report()
    assert machine.unit("other")["state"] == "waiting"
    plug(machine, "other")
    machine.wait_state("other")
    assert asked(machine) == ["/srv", "/mnt"]
    assert listeners(machine) == 0
    wait_until(lambda: nobody_looks(machine), what="the end of who looked")


def nobody_looks(machine):
    return not [path for path in machine.cgroups() if "late-mount" in path.name]


def test_no_memory_to_look_when_it_appears(machine):
    """It is tried again, though nothing else appears."""
    seam = Seam(machine)
    boot(machine)
    machine.run("mknod", "/run/node", "b", "7", "0")
    seam.arm(COUNT)
    machine.run("mkdir", "/dev/shm/disk")
    wait_until(lambda: "mkdirat" in [call.name for call in seam.calls()] and nobody_looks(machine), what="who looks for it")
    calls = seam.calls()
    begun = [call.name for call in calls].index("mkdirat")
    fork = next(call for call in calls[begun:] if call.name == "syscall")
    seam.arm(FAIL, 1, errno.ENOMEM, place=(fork.name, fork.site))
    machine.run("ln", "-s", "/run/node", "/dev/shm/disk/data")
    wait_log(machine, "cannot look for devices that are to be mounted yet: Cannot allocate memory")
    machine.wait_state("data")
    assert seam.hit and asked(machine) == ["/srv"]


def test_what_somebody_unmounts_stays_unmounted(machine):
    boot(machine)
    plug(machine, "disk/data")
    machine.wait_state("data")
    stop(machine, "data")
    machine.run("umount", "/srv/below", "/srv")
    unplug(machine, "disk")
    plug(machine, "disk/data")
    plug(machine, "other")
    machine.wait_state("other")
    assert "/srv" not in mounts(machine) and asked(machine) == ["/srv", "/mnt"], machine.report()


def test_what_cannot_be_mounted_fails_who_waits_and_can_be_tried_again(machine):
    boot(machine)
    (machine.share / "code").write_text("4\n")
    plug(machine, "disk/data")
    machine.wait_state("data", "failed")
    assert "/dev/shm/disk/data could not be mounted on /srv" in machine.unit("data")["result"]
    assert "fsck of /dev/shm/disk/data ended with exit code 4: it is not mounted (/run/molt/fsck.log has" in machine.log()
    assert machine.path("/run/molt/fsck.log").read_text() == "broken\n" and "broken" not in machine.path("/run/console").read_text()
    assert asked(machine) == []
    (machine.share / "code").write_text("1\n")
    start(machine, "data")
    assert asked(machine) == ["/srv"]


def test_no_program_to_check_it(machine):
    """fsck(8) would fail."""
    (machine.images["one"].place("usr/sbin/fsck.slow")).unlink()
    boot(machine)
    before = asked(machine, "fsck")
    plug(machine, "disk/data")
    machine.wait_state("data")
    assert asked(machine, "fsck") == before
    assert "is not checked: there is no fsck.slow in this image" in machine.log()


def test_mounted_by_hand_meanwhile(machine):
    """Whoever asks for the service has it looked at again."""
    boot(machine)
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    start(machine, "other")
    assert asked(machine) == []


def test_over_an_upgrade_and_a_crash(machine):
    boot(machine)
    machine.upgrade("two")
    os.kill(machine.pid, signal.SIGSEGV)
    wait_log(machine, "PID 1 crashed")
    plug(machine, "disk/data")
    plug(machine, "other")
    for name in ("data", "other"):
        machine.wait_state(name)
    assert sorted(asked(machine)) == ["/mnt", "/srv"]
    assert machine.image() == "two"


def test_upgrade_while_it_is_checked(machine):
    """Who checks it is one of the processes that are frozen, and goes on."""
    for image in machine.images.values():
        image.write("usr/sbin/fsck", FSCK.replace("exit", "read x </run/share/go; exit"), 0o755)
    boot(machine)
    os.mkfifo(machine.share / "go")
    plug(machine, "disk/data")
    wait_until(lambda: "-T /dev/shm/disk/data -a" in asked(machine, "fsck"), what="fsck")
    machine.upgrade("two")
    assert "/srv" not in mounts(machine)
    (machine.share / "go").write_text("x\n")
    machine.wait_state("data")
    assert machine.image() == "two" and asked(machine) == ["/srv"]


def test_single_user_mode_waits_with_it(machine):
    for image in machine.images.values():
        image.write("usr/sbin/rescue", "#!/bin/sh\nread x </run/share/go\n", 0o755)
        image.write("etc/molt/init.conf.d/z.conf", "[Boot]\nRescueShell=/usr/sbin/rescue\n")
    os.mkfifo(machine.share / "go")
    boot(machine).initctl("single", check=False)
    wait_log(machine, "single-user mode: a root shell")
    plug(machine, "disk/data")
    (machine.share / "go").write_text("exit\n")
    machine.wait_state("data")


def test_shutdown_while_it_waits(machine):
    down(boot(machine))
    assert machine.process.wait(30) == 128 + signal.SIGINT


def test_a_crash_while_the_boot_waits_for_it(machine):
    machine.images["one"].write("etc/fstab", FSTAB.replace("50ms", "2s"))
    machine.start(wait=False)
    wait_log(machine, "waiting for the device /dev/shm/disk/data")
    os.kill(machine.pid, signal.SIGSEGV)
    wait_until(machine.is_up, what="the boot")
    for name in ("data", "other"):
        machine.wait_state(name, "waiting")
    plug(machine, "disk/data")
    machine.wait_state("data")
    assert asked(machine) == ["/srv"]
