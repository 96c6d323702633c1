# SPDX-License-Identifier: MIT
"""The hardware watchdog. What stands for it is a fifo: it hears what a device would be written."""
import os
import signal

from helpers import down, wait_log
from machine import wait_until

POWEROFF = 128 + signal.SIGINT


def heard(device, text=b""):
    """Waits for more to be written, and returns all of it."""
    got = []

    def more():
        try:
            got.append(os.read(device, 4096))
        except BlockingIOError:
            pass
        return b"".join(got)

    return wait_until(more, 15, "the watchdog being pinged")


def holds(machine):
    """PID 1's descriptors of the device."""
    links = []
    for fd in os.listdir(f"/proc/{machine.pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{machine.pid}/fd/{fd}"))
        except OSError:
            pass
    return sum("wd" in link for link in links)


def test_one_that_comes_later(machine):
    """As when its driver is loaded: nobody says so to PID 1."""
    image = machine.images["one"]
    image.conf(Manager={"WatchdogDevice": "/run/wd", "RuntimeWatchdogSec": "10s"})
    machine.start()
    wait_log(machine, "cannot open the watchdog /run/wd")
    device = machine.share / "wd"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    assert holds(machine) == 0
    machine.path("/run/wd").symlink_to("/run/share/wd")
    wait_log(machine, "the watchdog /run/wd is armed")
    assert heard(reader) == b"\0" and holds(machine) == 1
    os.close(reader)


def test_from_life_to_life_and_down(machine):
    """Pinged at half its time, one descriptor through a re-exec, a crash and an upgrade, and never closed by mistake;
    switched off only by init.conf."""
    keys = {"WatchdogDevice": "/run/wd", "RuntimeWatchdogSec": "10s"}
    for image in machine.images.values():
        image.conf(Manager=keys)
    machine.start()
    wait_log(machine, "cannot open the watchdog /run/wd")
    os.mkfifo(machine.path("/run/wd"))
    device = os.open(machine.path("/run/wd"), os.O_RDONLY | os.O_NONBLOCK)
    machine.initctl("reexec")
    assert set(heard(device)) == {0} and holds(machine) == 1
    machine.initctl("reexec")
    assert set(heard(device)) == {0} and holds(machine) == 1
    os.kill(machine.pid, signal.SIGSEGV)
    wait_log(machine, "PID 1 crashed")
    assert set(heard(device)) == {0}
    assert machine.upgrade("two")[0] == 0
    assert set(heard(device)) == {0} and holds(machine) == 1
    assert set(heard(device)) == {0}, "half of its time later"
    machine.path("/run/conf").write_text("[Manager]\nRuntimeWatchdogSec=0\n")
    machine.run("mount", "--bind", "/run/conf", "/etc/molt/init.conf")
    os.kill(machine.pid, signal.SIGHUP)
    wait_log(machine, "is switched off")
    assert heard(device).endswith(b"V") and holds(machine) == 0
    os.close(device)


def test_armed_on_the_way_down(machine):
    machine.images["one"].conf(Manager={"WatchdogDevice": "/run/wd", "RuntimeWatchdogSec": "1min"})
    machine.start()
    os.mkfifo(machine.path("/run/wd"))
    device = os.open(machine.path("/run/wd"), os.O_RDONLY | os.O_NONBLOCK)
    machine.initctl("reexec")
    assert set(heard(device)) == {0}
    down(machine)
    assert machine.process.wait(30) == POWEROFF
    assert set(heard(device)) == {0}, "pinged once more, with another time, and not switched off"
    os.close(device)
