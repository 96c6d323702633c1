# SPDX-License-Identifier: MIT
"""PID 1's environment is that of its first life in all of them: what the kernel's command line or a container's manager
says there is asked for in /proc/1/environ, and the loader takes its settings from it."""
import pytest
from machine import BUILD, Machine
from test_crash import crash
from test_rollback import molt_without_memory, rolled_back  # noqa: F401

pytestmark = pytest.mark.timeout(120)

# What the kernel hands over of "container=x LANG=... " on its command line, and the most it does.
GIVEN = {"container": "test", "LC_ALL": "C.UTF-8", "TERM": "vt220", "GLIBC_TUNABLES": "glibc.malloc.check=0"} | {
    f"variable{n}": "x" * 60 for n in range(26)}


def environment(machine):
    text = open(f"/proc/{machine.pid}/environ").read()
    return dict(variable.split("=", 1) for variable in text.split("\0") if variable)


def check(machine, said):
    """`said`: in the log by now, so that it is another life."""
    assert said in machine.log(), machine.report()
    found = environment(machine)
    assert GIVEN.items() <= found.items(), f"{GIVEN.items() - found.items()}\n{machine.report()}"
    assert "/usr/sbin" in found["PATH"].split(":")


@pytest.fixture
def given(tmp_path):
    with Machine(tmp_path, images=("one", "two", "bad", "refusing"), environment=GIVEN) as machine:
        machine.images["one"].conf(Upgrade={"AutoCommit": "no", "ExecTimeoutSec": "20s"})
        machine.images["two"].conf(Upgrade={"AutoCommit": "no"})
        bad = machine.images["bad"]
        bad.copy(BUILD / "tools/badinit", "usr/sbin/init")
        bad.write("etc/badinit", "yes segv")
        yield machine


def test_in_every_life(given, molt_without_memory):
    machine = given
    machine.images["refusing"].copy(molt_without_memory, "usr/sbin/init")
    machine.start()
    machine.initctl("reexec")
    check(machine, "took up the state, generation 1")
    machine.upgrade("two")
    check(machine, "took up the state, generation 2")
    assert machine.initctl("rollback", check=False).returncode == 4
    check(machine, "rolled back")
    rolled_back(machine, "the new init was killed by SIGSEGV", image="bad")
    check(machine, "this one was brought back")
    rolled_back(machine, "the new init could not take over the state", image="refusing")
    check(machine, "could not take over the state")
    machine.initctl("reexec")
    crash(machine)
    check(machine, "PID 1 crashed: SIGSEGV")


def test_services_get_none_of_it(given):
    machine = given
    machine.images["one"].service("shows", "[Service]\nType=oneshot\nExecStart=/usr/bin/env\n")
    machine.start()
    machine.initctl("start", "shows")
    text = machine.path("/var/log/molt/shows.log").read_text()
    assert "PATH=" in text and "container=" not in text and "variable" not in text, text
