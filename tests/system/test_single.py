# SPDX-License-Identifier: MIT
"""From a system that runs to single-user mode and back: `telinit 1`, `initctl single`."""
import os
import re
import signal

import pytest
from helpers import answer, down, request, script, wait_file, wait_log
from machine import Machine, wait_until

SHELL = "#!/bin/sh\necho up >>/run/share/shell\nread x </run/share/go\n"
FOREVER = "ExecStart=/bin/sleep 1000\n"


@pytest.fixture
def machine(tmp_path):
    """A manager of devices, a service that mounts lie on, two others in an order, and a shell for who is asked."""
    with Machine(tmp_path, images=("one", "two")) as machine:
        image = machine.images["one"]
        image.conf(services=["a.service", "store.service"], Boot={"DeviceServices": "manager",
                                                                  "RescueShell": "/usr/sbin/rescue"},
                   Manager={"CrashLoopSec": "0"})
        image.service("manager", f"[Service]\n{FOREVER}")
        image.service("store", f"[Service]\n{FOREVER}[Upgrade]\nSystemStorage=yes\n")
        image.service("a", f"[Unit]\nRequires=b.service\nAfter=b.service\n[Service]\nRestart=always\n{FOREVER}")
        stop = script(machine, "stop-b", "[ ! -p /run/share/stop ] || read x </run/share/stop\necho b >>/run/share/stopped")
        image.service("b", f"[Service]\nExecStop={stop}\n{FOREVER}")
        image.write("usr/sbin/rescue", SHELL, 0o755)
        image.place("usr/sbin/telinit").symlink_to("../bin/initctl")
        os.mkfifo(machine.share / "go")
        yield machine


def start(machine):
    machine.start()
    machine.wait_state("a")
    return machine


def state(machine):
    return machine.json("status")["system"]["state"]


def ask(machine):
    """From outside: a client of the machine is somebody who is logged in, and may be gone before it has exited."""
    assert answer(request(machine, "single"))[0] == "ok"


def leave(machine):
    (machine.share / "go").write_text("exit\n")
    wait_until(lambda: state(machine) == "running", what="the services to be started again")


@pytest.mark.parametrize("command", [["telinit", "1"], ["/sbin/init", "S"], ["initctl", "single"]])
def test_there_and_back(machine, command):
    start(machine)
    kept = {name: machine.unit(name)["main_pid"] for name in ("manager", "store")}
    assert machine.run(*command, check=False).returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), "it is one of those"
    wait_file(machine.share / "shell")
    assert [machine.unit(name)["state"] for name in ("a", "b")] == ["inactive", "inactive"], machine.report()
    assert (machine.share / "stopped").read_text() == "b\n"
    assert {name: machine.unit(name)["main_pid"] for name in kept} == kept
    assert machine.initctl("upgrade", "/images/two", check=False).returncode == 5, "in the middle of it"
    assert machine.initctl("single", check=False).returncode == 5
    leave(machine)
    machine.wait_state("a")
    assert {name: machine.unit(name)["main_pid"] for name in kept} == kept
    assert (machine.share / "shell").read_text() == "up\n"


def test_crashes_on_the_way(machine):
    """While a service stops, and while a person is in the shell: one shell, and its end is heard."""
    os.mkfifo(machine.share / "stop")
    ask(start(machine))
    wait_until(lambda: machine.unit("b")["state"] == "stopping", what="b being stopped")
    crash(machine, 1)
    assert not (machine.share / "shell").exists()
    (machine.share / "stop").write_text("x\n")
    wait_file(machine.share / "shell")
    crash(machine, 2)
    leave(machine)
    machine.wait_state("a")
    assert (machine.share / "shell").read_text() == "up\n", machine.report()


def crash(machine, count):
    os.kill(machine.pid, signal.SIGSEGV)
    wait_until(lambda: machine.log().count("going on with the boot") == count, what="the next life")


def test_what_does_not_end_is_killed_and_named(machine):
    """A service that has its ExecStop= wait, and somebody who is logged in and ignores SIGTERM."""
    os.mkfifo(machine.share / "stop")
    machine.images["one"].write("etc/molt/init.conf.d/z.conf", "[Manager]\nShutdownTimeoutSec=1\n")
    start(machine)
    kept = {name: machine.service_pids(name) for name in ("manager", "store")}
    with machine.popen("sh", "-c", "trap '' TERM; echo >/run/share/login; while :; do sleep 1000; done") as login:
        wait_file(machine.share / "login")
        ask(machine)
        wait_log(machine, "waiting for b.service (pid ")
        wait_log(machine, "services that have not stopped in time are killed")
        wait_log(machine, "still to end on SIGTERM: ")
        wait_file(machine.share / "shell")
        assert login.wait(10) == -signal.SIGKILL
    assert [machine.service_pids(name) for name in ("a", "b")] == [[], []], machine.report()
    assert {name: machine.service_pids(name) for name in kept} == kept, "what stays is not touched"
    assert re.search(r"waiting for b.service \(pid \d+\), 1 s of 1 s\n", machine.log()), machine.report()
    assert re.search(r"2 processes still to end on SIGTERM: \d+ sh .*; \d+ sleep ", machine.log()), machine.report()
    leave(machine)
    machine.wait_state("a")


def test_who_is_logged_in_goes(machine):
    start(machine)
    with machine.popen("sh", "-c", "echo >/run/share/login; exec sleep 1000") as login:
        wait_file(machine.share / "login")
        ask(machine)
        assert login.wait(10) == -signal.SIGTERM
    wait_file(machine.share / "shell")


def test_a_crash_while_they_are_asked_to_end(machine):
    start(machine)
    with machine.popen("sh", "-c", "trap '' TERM; echo >/run/share/login; while :; do sleep 1000; done") as login:
        wait_file(machine.share / "login")
        ask(machine)
        wait_until(lambda: [machine.service_pids(name) for name in ("a", "b")] == [[], []], what="the end of the services")
        crash(machine, 1)
        assert not (machine.share / "shell").exists()
        wait_file(machine.share / "shell")
        assert login.wait(10) == -signal.SIGKILL
    leave(machine)
    machine.wait_state("a")


def test_shutdown_from_there(machine):
    ask(start(machine))
    wait_file(machine.share / "shell")
    down(machine)
    assert machine.process.wait(30) == 128 + signal.SIGINT
