# SPDX-License-Identifier: MIT
"""Gettys, utmp(5), and a rescue shell that asks who is there."""
import os
import shutil
import subprocess

import pytest
from helpers import FOREVER, down, wait_file
from machine import TOP, Machine, wait_until

GETTY = """#!/bin/sh
echo "$@" >>/run/share/getty
read x </run/share/go
"""


def records(machine, name):
    """The entries of a file of utmp(5), as utmpdump(1) prints them: type, pid, id, user, line."""
    shown = subprocess.run(["utmpdump", machine.path(name)], capture_output=True, text=True, check=True).stdout
    return [[field.strip() for field in line.split("[")[1:]] for line in shown.replace("]", "").splitlines()]


def entries(machine, name="/var/run/utmp"):
    return [(fields[0], fields[2], fields[3], fields[4]) for fields in records(machine, name)]


@pytest.fixture
def machine(tmp_path):
    with Machine(tmp_path, images=("one",)) as machine:
        image = machine.images["one"]
        image.conf()
        for unit in (TOP / "conf/units").glob("*.service"):
            image.copy(unit, f"usr/lib/molt/system/{unit.name}")
        image.write("usr/sbin/agetty", GETTY, 0o755)
        os.mkfifo(machine.share / "go")
        image.write("etc/molt/init.conf.d/gettys.conf", "[Boot]\nGettys=tty7 ttyS9\n")
        image.write("etc/fstab", "/run/share/wtmp /var/log none bind,x-mount.mkdir\n")
        (machine.share / "wtmp").mkdir()
        yield machine


def with_files(machine):
    """They are there before the boot, as a manager of containers may want it."""
    (machine.share / "wtmp/wtmp").write_text("")
    (machine.share / "run").mkdir()
    (machine.share / "run/utmp").write_text("")
    with (machine.images["one"].place("etc/fstab")).open("a") as fstab:
        fstab.write("/run/share/run /var/run none bind,x-mount.mkdir\n")


def test_gettys_where_they_are_asked_for_and_again(machine):
    machine.start()
    machine.wait_state("getty@tty7")
    machine.wait_state("serial-getty@ttyS9")
    said = machine.share / "getty"
    wait_until(lambda: len(wait_file(said).splitlines()) == 2, what="two gettys")
    assert sorted(said.read_text().splitlines()) == [
        "--local-line --keep-baud 115200,57600,38400,9600 ttyS9 vt220", "--noclear tty7 linux"]
    (machine.share / "go").write_text("x\n")
    wait_until(lambda: len(said.read_text().splitlines()) >= 3, what="another one")
    assert not machine.path("/var/run/utmp").exists(), "a container has none of its own"


# A terminal: what comes on it goes to a file.
SCREEN = r"""
import os, pty
outer, inner = pty.openpty()
with open("/run/share/terminal", "w") as f:
    f.write(os.ttyname(inner)[len("/dev/"):])
with open("/run/share/screen", "wb", buffering=0) as f:
    while True:
        f.write(os.read(outer, 4096))
"""


@pytest.mark.parametrize("template", ["serial-getty", "getty"])
def test_the_machines_own_agetty_understands_what_it_is_told(machine, template):
    shutil.copy(shutil.which("agetty", path="/usr/sbin:/sbin"), machine.images["one"].place("usr/sbin/agetty"))
    machine.images["one"].write("etc/molt/init.conf.d/gettys.conf", "[Boot]\nGettys=no\n")
    machine.start()
    machine.popen("/usr/bin/python3", "-c", SCREEN)
    terminal = wait_file(machine.share / "terminal")
    machine.initctl("start", f"{template}@{terminal.replace('/', '-')}")
    screen = machine.share / "screen"
    wait_until(lambda: "login:" in screen.read_text(), 15, f"a login on {terminal}")


def test_nobody_is_asked_in_a_container(machine):
    machine.images["one"].write("etc/molt/init.conf.d/gettys.conf", "[Boot]\nGettys=auto\n")
    machine.start()
    assert machine.json("status")["services"] == []


def test_utmp(machine):
    """A boot, a run level, two gettys of which one ends, and a shutdown."""
    with_files(machine)
    machine.start()
    machine.wait_state("getty@tty7")
    machine.wait_state("serial-getty@ttyS9")
    wait_until(lambda: len(entries(machine)) == 4, what="four entries")
    assert sorted(entries(machine)) == [("1", "~~", "runlevel", "~"), ("2", "~~", "reboot", "~"),
                                        ("5", "7", "", "tty7"), ("5", "S9", "", "ttyS9")]
    machine.initctl("stop", "getty@tty7")
    wait_until(lambda: ("8", "7", "", "tty7") in entries(machine), what="its end")
    assert ("5", "S9", "", "ttyS9") in entries(machine)
    down(machine)
    machine.process.wait(30)
    shutil.copy(machine.share / "wtmp/wtmp", machine.share / "copy")
    shown = subprocess.run(["utmpdump", machine.share / "copy"], capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if "shutdown" in line], shown


@pytest.mark.parametrize("word", ["single", "rescue", "systemd.unit=rescue.target", "emergency", "systemd.unit=emergency.target"])
def test_sulogin_is_asked_first(tmp_path, word):
    with Machine(tmp_path, images=("one",), arguments=(word, "molt.debug")) as machine:
        image = machine.images["one"]
        image.conf(services=["a.service"])
        image.service("a", f"[Service]\nExecStart={FOREVER}\n")
        image.write("usr/sbin/sulogin", "#!/bin/sh\necho $1 $SUSHELL >/run/share/asked\nread x </run/share/go\n", 0o755)
        image.write("etc/molt/init.conf.d/login.conf", "[Boot]\nRescueLogin=yes\nConsole=/run/share/console\n")
        (machine.share / "console").write_text("")
        os.mkfifo(machine.share / "go")
        machine.start()
        assert wait_file(machine.share / "asked") == "--force /bin/sh\n"
        assert machine.json("status")["services"] == []
        (machine.share / "go").write_text("x\n")
        machine.wait_state("a")
