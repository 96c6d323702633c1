# SPDX-License-Identifier: MIT
"""PID 1 crashes and goes on: nothing of what it supervises notices."""
import os
import signal

import pytest
from helpers import answer, request
from machine import wait_until
from outside import Snapshot
from test_many import serve

pytestmark = pytest.mark.timeout(120)

SIGNALS = [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL]


def crashes(machine):
    """How often PID 1 says that it has crashed."""
    result, records = answer(request(machine, "version"))
    assert result == "ok"
    fields = dict(line.split("=", 1) for line in records[0].split("\n")[1:] if "=" in line)
    return int(fields["crashes"])


def crash(machine, number=signal.SIGSEGV):
    """One crash, and the next life answers."""
    before = crashes(machine)
    os.kill(machine.pid, number)
    wait_until(lambda: crashes(machine) > before, what="the next life")


def no_loop(machine):
    for image in machine.images.values():
        image.write("etc/molt/init.conf.d/crash.conf", "[Manager]\nCrashLoopSec=0\n")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_each_signal(machine, number):
    serve(machine)
    before = Snapshot(machine)
    crash(machine, number)
    assert Snapshot(machine) == before, machine.report()
    assert f"PID 1 crashed: {number.name}" in machine.log()
