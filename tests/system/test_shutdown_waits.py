# SPDX-License-Identifier: MIT
"""A shutdown says what it waits for, has a deadline over all its steps, and can be forced; and who asks for one by a
signal: the power supply, the three keys."""
import os
import pathlib
import re
import shutil
import signal
import time

import pytest

from helpers import down, script, service, start, wait_file, wait_log
from machine import wait_until

POWEROFF, REBOOT = 128 + signal.SIGINT, 128 + signal.SIGHUP
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 1000; done'"


@pytest.fixture
def boot(machine):
    """Boots with these keys of [Manager], and a service that does not end on SIGTERM."""
    def with_keys(**keys):
        machine.images["one"].conf(Manager=keys)
        machine.start()
        service(machine, "stubborn", "TimeoutStopSec=infinity", start=STUBBORN)
        start(machine, "stubborn")
        return machine
    return with_keys


def test_it_names_what_it_waits_for(boot):
    machine = boot(ShutdownTimeoutSec="7s")
    console = os.open(machine.path("/run/console"), os.O_RDONLY)
    pid = machine.unit("stubborn")["main_pid"]
    down(machine)
    assert machine.process.wait(30) == POWEROFF
    said = os.read(console, 100_000).decode()
    os.close(console)
    assert re.search(rf"waiting for stubborn\.service \(pid {pid}\), [56] s of [67] s\r\n", said), said


def test_the_deadline_over_everything(boot):
    """Also over a crash: it is the one that it had at first."""
    machine = boot(ShutdownTimeoutSec="60s", ShutdownDeadlineSec="3s")
    console = os.open(machine.path("/run/console"), os.O_RDONLY)
    began = time.monotonic()
    down(machine, "reboot")
    os.kill(machine.pid, signal.SIGSEGV)
    wait_log(machine, "going on with the shutdown")
    assert machine.process.wait(30) == REBOOT
    assert 2.5 < time.monotonic() - began < 8
    said = os.read(console, 100_000).decode()
    os.close(console)
    assert "is forced now (it was at: services)" in said, said


def press(machine):
    os.kill(machine.pid, signal.SIGINT)
    status = pathlib.Path(f"/proc/{machine.pid}/status")

    def taken():
        try:
            text = status.read_text()
        except OSError:
            return True
        return not int(re.search(r"ShdPnd:\s*(\w+)", text)[1], 16) or "zombie" in text

    wait_until(taken, what="PID 1 taking the signal")


def test_seven_presses_force_it(boot):
    machine = boot(CtrlAltDel="poweroff")
    for _ in range(6):
        press(machine)
    assert machine.json("status")["system"]["state"] == "stopping"
    press(machine)
    assert machine.process.wait(20) == POWEROFF


@pytest.mark.parametrize("number, code", [(13, POWEROFF), (14, POWEROFF), (15, REBOOT)])
def test_forced_by_a_signal(boot, number, code):
    machine = boot()
    os.kill(machine.pid, signal.SIGRTMIN + number)
    assert machine.process.wait(20) == code


def power(machine, letter):
    (machine.path("/run/powerstatus")).write_text(letter)
    os.kill(machine.pid, signal.SIGPWR)


def test_the_power_fails_and_comes_back(machine):
    machine.start()
    power(machine, "F")
    plan = wait_until(lambda: machine.json("status")["scheduled"], what="the shutdown")
    assert plan["kind"] == "poweroff" and 100e6 < plan["left_usec"] <= 120e6
    assert not machine.path("/run/powerstatus").exists()
    power(machine, "O")
    wait_until(lambda: not machine.json("status")["scheduled"], what="the end of the alarm")
    # What a person has planned is none of its business.
    machine.initctl("shutdown", "-r", "+30")
    power(machine, "O")
    wait_until(lambda: not machine.path("/run/powerstatus").exists(), what="PID 1 taking the signal")
    assert machine.json("status")["scheduled"]["kind"] == "reboot"
    power(machine, "L")
    assert machine.process.wait(30) == POWEROFF


def test_a_command_for_the_power(machine):
    machine.images["one"].conf(Manager={"PowerFailCommand": "/run/share/power"})
    script(machine, "power", "echo $1 >/run/share/told")
    machine.start()
    power(machine, "F")
    assert wait_file(machine.share / "told") == "fail\n"
    assert machine.json("status")["scheduled"] is None


def test_back_to_the_initramfs(machine):
    """As dracut has it: /shutdown is PID 1 there, knows how it is to end, and has the root at /oldroot."""
    machine.start()
    place = machine.path("/run/initramfs")
    (place / "bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", place / "bin/busybox")
    program = place / "shutdown"
    program.write_text("#!/bin/busybox sh\nexec 3>>/run/told\necho $$ $1 >&3\n/bin/busybox cat /oldroot/etc/os-release >&3\n"
                       "/bin/busybox ls -d /proc/self/fd /sys/kernel >&3\nexec /bin/busybox $1 -f\n")
    program.chmod(0o755)
    told = os.open(machine.path("/run/told"), os.O_RDWR | os.O_CREAT)
    down(machine, "reboot")
    assert machine.process.wait(30) == REBOOT
    said = os.read(told, 10_000).decode()
    os.close(told)
    assert said.startswith("1 reboot\n") and "Image one" in said and "/proc/self/fd\n" in said, said
