# SPDX-License-Identifier: MIT
"""The stages of the boot, as far as a namespace has them; the others are in the boots of QEMU."""
import os
import pathlib
import re
import signal

import pytest
from helpers import wait_file, wait_log
from machine import BUILD, Machine, wait_until

ID = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


@pytest.fixture
def boot(tmp_path):
    """Boots an image with files of the test's own; `machine-id` None: the image has none."""
    running = []

    def start(files, arguments=(), writable=(), environment=None, prepare=None, skip=("sysusers", "tmpfiles")):
        machine = Machine(tmp_path, images=("one",), arguments=("molt.debug", *arguments), writable=writable,
                          environment=environment, skip=skip)
        running.append(machine)
        for path, text in files.items():
            machine.images["one"].write(path, text)
        if prepare:
            prepare(machine)
        return machine.start(wait=not prepare)

    yield start
    for machine in running:
        machine.stop()


def id_of(machine):
    return machine.path("/etc/machine-id").read_text()


def covers(machine):
    return pathlib.Path(f"/proc/{machine.pid}/mounts").read_text().count(" /etc/machine-id ")


@pytest.mark.parametrize("before", ["", "\n", "uninitialized\n"])
def test_machine_id_is_written_once(boot, before):
    machine = boot({"etc/machine-id": before}, writable=("one",))
    assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n", id_of(machine)), machine.report()
    assert machine.path("/etc/machine-id").stat().st_mode & 0o777 == 0o444
    assert covers(machine) == 0


def test_machine_id_covers_that_of_a_read_only_image(boot):
    first, second = boot({"etc/machine-id": ""}), boot({"etc/machine-id": ""})
    for machine in (first, second):
        assert covers(machine) == 1 and re.fullmatch("[0-9a-f]{32}\n", id_of(machine)), machine.report()
        assert machine.run("sh", "-c", "echo x >/etc/machine-id", check=False).returncode != 0
    assert id_of(first) != id_of(second)


@pytest.mark.parametrize("there", [ID + "\n", "somebody's\n"])
def test_machine_id_that_is_there_stays(boot, there):
    machine = boot({"etc/machine-id": there}, writable=("one",), environment={"container_uuid": OTHER})
    assert id_of(machine) == there and covers(machine) == 0
    assert ("is no machine ID" in machine.log()) == (there != ID + "\n")


@pytest.mark.parametrize("how", ["argument", "container", "systemd"])
def test_machine_id_that_is_told(boot, how):
    told = f"{OTHER[:8]}-{OTHER[8:12]}-{OTHER[12:16]}-{OTHER[16:20]}-{OTHER[20:]}"
    arguments = {"argument": [f"molt.machine_id={told}"], "systemd": [f"systemd.machine_id={OTHER}"]}.get(how, [])
    machine = boot({"etc/machine-id": "" if how == "container" else ID + "\n"}, arguments=arguments,
                   environment={"container_uuid": told} if how == "container" else None)
    assert id_of(machine) == OTHER + "\n" and covers(machine) == 1, machine.report()


def test_nothing_of_the_host_is_touched(boot):
    """Parameters of the kernel and its modules are not a namespace's."""
    machine = boot({"etc/sysctl.d/99-test.conf": "kernel.domainname = touched\n",
                    "etc/modules-load.d/test.conf": "no_such_module\n"})
    assert machine.path("/proc/sys/kernel/domainname").read_text() != "touched\n"
    assert "the boot goes on" not in machine.log(), machine.report()


FSTAB = "tmpfs /srv tmpfs size=1m 0 0\n/dev/no-such-disk /mnt ext4 {0} 0 2\n"
FSCK = """#!/bin/sh
echo "$*" >>/run/share/fsck
read -r code </run/share/code
exit "$code"
"""


def fsck_boot(boot, code, options="nofail", arguments=()):
    """With an fsck that notes its arguments and ends with that code."""
    def prepare(machine):
        machine.images["one"].place("usr/sbin/fsck").chmod(0o755)
        machine.images["one"].place("usr/sbin/rescue").chmod(0o755)
        os.mkfifo(machine.share / "go")
        if code is None:
            os.mkfifo(machine.share / "code")
        else:
            (machine.share / "code").write_text(f"{code}\n")

    return boot({"etc/fstab": FSTAB.format(options), "usr/sbin/fsck": FSCK,
                 "usr/sbin/rescue": "#!/bin/sh\necho up >/run/share/shell\nread x </run/share/go\n",
                 "etc/molt/init.conf.d/rescue.conf": "[Boot]\nRescueShell=/usr/sbin/rescue\nDeviceTimeoutSec=1ms\n"},
                arguments=arguments, prepare=prepare)


def asked(machine):
    return (machine.share / "fsck").read_text() if (machine.share / "fsck").exists() else ""


@pytest.mark.parametrize("arguments, said", [
    ([], "-a"), (["fsck.mode=force", "fsck.repair=yes"], "-y -f"), (["fsck.repair=no"], "-n"), (["fsck.mode=skip"], None)])
def test_fsck_is_asked_as_the_command_line_says(boot, arguments, said):
    machine = fsck_boot(boot, 1 if said == "-a" else 0, arguments=arguments)
    wait_until(machine.is_up, what="the boot")
    assert asked(machine) == (f"-T -A -R -M -t noopts=_netdev,noopts=noauto {said}\n" if said else ""), machine.report()
    assert ("which fsck has corrected" in machine.log()) == (said == "-a")
    assert machine.json("status")["system"]["state"] == "running"


def test_fsck_is_not_asked_for_what_is_mounted_later(boot):
    machine = fsck_boot(boot, 0, options="noauto")
    wait_until(machine.is_up, what="the boot")
    assert asked(machine) == ""


@pytest.mark.parametrize("code", [2, 4, 8, 132])
def test_errors_that_fsck_leaves_ask_for_a_person(boot, code):
    """Before anything is mounted; the boot goes on once the person is done."""
    machine = fsck_boot(boot, code)
    wait_file(machine.share / "shell")
    mounts = pathlib.Path(f"/proc/{machine.pid}/mounts")
    assert " /srv " not in mounts.read_text()
    assert "checking the file systems of /etc/fstab failed" in machine.path("/run/console").read_text() + machine.log()
    (machine.share / "go").write_text("exit\n")
    wait_until(lambda: machine.json("status", check=False).get("system", {}).get("state") == "running", what="the boot")
    assert " /srv " in mounts.read_text()


# What an initramfs may have done: /usr is mounted, read-only as the kernel command line says, and was checked.
INITRAMFS = """#!/bin/sh
mount -o bind /usr /usr && mount -o remount,bind,ro /usr
mkdir -p /run/initramfs
if [ -e /run/share/noted ]; then : >/run/initramfs/fsck-usr; fi
exec /usr/sbin/molt "$@"
"""


def initramfs_boot(boot, noted):
    def prepare(machine):
        image = machine.images["one"]
        for name in ("init", "fsck"):
            image.place(f"usr/sbin/{name}").chmod(0o755)
        image.copy(BUILD / "molt", "usr/sbin/molt")
        (machine.share / "code").write_text("0\n")
        if noted:
            (machine.share / "noted").touch()

    machine = boot({"etc/fstab": "tmpfs /usr tmpfs defaults 0 2\n", "usr/sbin/fsck": FSCK, "usr/sbin/init": INITRAMFS},
                   writable=("one",), prepare=prepare)
    wait_until(machine.is_up, what="the boot")
    return machine


def test_usr_of_an_initramfs_is_mounted_as_fstab_says(boot):
    machine = initramfs_boot(boot, noted=False)
    usr = [line.split() for line in pathlib.Path(f"/proc/{machine.pid}/mounts").read_text().splitlines() if " /usr " in line]
    assert len(usr) == 1 and "rw" in usr[0][3].split(","), usr
    assert asked(machine).count("\n") == 1


def test_fsck_is_not_asked_for_what_the_initramfs_has_checked(boot):
    assert asked(initramfs_boot(boot, noted=True)) == ""


def test_fsck_has_all_the_time_it_needs_over_a_crash_of_pid_1(boot):
    """And who waits for it hears what it is at, in the life after that too."""
    machine = fsck_boot(boot, None)
    wait_file(machine.share / "fsck")
    os.kill(machine.pid, signal.SIGSEGV)
    wait_until(lambda: "going on with the boot" in machine.log(), what="the next life")
    wait_log(machine, "still checking the file systems of /etc/fstab, 5 s: sh /usr/sbin/fsck -T -A -R -M ")
    assert asked(machine).count("\n") == 1 and "takes too long" not in machine.log(), machine.report()
    (machine.share / "code").write_text("0\n")
    wait_until(lambda: machine.json("status", check=False).get("system", {}).get("state") == "running", what="the boot")
    assert machine.log().count("as molt.skip= says") == 2, "the next life has the first one's arguments"


def test_network_file_systems_are_left_to_services(boot):
    machine = boot({"etc/fstab": "server:/x /mnt nfs defaults 0 0\ntmpfs /opt tmpfs _netdev 0 0\n"
                                 "/dev/no-such-disk /media ext4 _netdev 0 2\ntmpfs /srv tmpfs size=1m 0 0\n"})
    assert "/dev/no-such-disk has not come" not in machine.log() and "takes too long" not in machine.log(), "nobody waits for it"
    mounts = pathlib.Path(f"/proc/{machine.pid}/mounts").read_text()
    assert " /srv " in mounts and " /opt " not in mounts and " /mnt " not in mounts
    for place in ("/mnt", "/opt", "/media"):
        assert f"on {place} is left out" in machine.log(), machine.report()


def test_users_and_files_that_packages_want(boot):
    """By the host's own tools; and without them what every program takes for granted."""
    machine = boot({"etc/sysusers.d/test.conf": "u molt-test-user - \"of a test\" /\n",
                    "etc/tmpfiles.d/test.conf": "d /run/of-a-test 0750 molt-test-user - -\nf /run/of-a-test/id - - - - %m\n"
                                                "L /usr/on-the-image - - - - /nowhere\n"
                                                "f+! /run/nologin 0644 - - - as systemd has it\n",
                    "etc/machine-id": ID + "\n"}, writable=("one",), skip=())
    assert "molt-test-user" in machine.path("/etc/passwd").read_text(), machine.report()
    made = machine.path("/run/of-a-test")
    user = machine.run("id", "-u", "molt-test-user").stdout.strip()
    assert (made.stat().st_mode & 0o777, str(made.stat().st_uid)) == (0o750, user)
    assert (made / "id").read_text() == ID
    assert not machine.path("/run/nologin").exists(), "nobody but root could log in"
    assert "the boot goes on" not in machine.log(), machine.report()


def test_files_without_their_tool(boot):
    hide = {f"usr/bin/systemd-{name}": "" for name in ("tmpfiles", "sysusers")}  # nobody may execute them
    machine = boot(hide, skip=(), prepare=lambda m: m.images["one"].write("etc/fstab", "tmpfs /tmp tmpfs mode=0700\n"))
    wait_until(machine.is_up, what="the boot")
    assert machine.path("/run/lock").stat().st_mode & 0o7777 == 0o1777
    assert machine.path("/var/tmp").stat().st_mode & 0o7777 == 0o1777
    assert os.readlink(machine.path("/var/run")) == "/run"


def test_stages_that_are_to_be_left_out(boot):
    machine = boot({"etc/fstab": "tmpfs /srv tmpfs size=1m 0 0\n", "etc/machine-id": ""}, skip=("mount", "machine-id"))
    assert " /srv " not in pathlib.Path(f"/proc/{machine.pid}/mounts").read_text()
    assert covers(machine) == 0 and machine.log().count("as molt.skip= says") == 2, machine.report()
