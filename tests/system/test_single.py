# SPDX-License-Identifier: MIT
"""From a system that runs to single-user mode and back: `telinit 1`, `initctl single`."""
import os
import signal

import pytest
from helpers import down, script, wait_file, wait_log
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


def leave(machine):
    (machine.share / "go").write_text("exit\n")
    wait_until(lambda: state(machine) == "running", what="the services to be started again")


@pytest.mark.parametrize("command", [["telinit", "1"], ["/sbin/init", "S"], ["initctl", "single"]])
def test_there_and_back(machine, command):
    start(machine)
    kept = {name: machine.unit(name)["main_pid"] for name in ("manager", "store")}
    machine.run(*command)
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
    start(machine).initctl("single")
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


def test_a_service_that_does_not_stop_is_left(machine):
    os.mkfifo(machine.share / "stop")
    machine.images["one"].write("etc/molt/init.conf.d/z.conf", "[Manager]\nShutdownTimeoutSec=1\n")
    start(machine).initctl("single")
    wait_log(machine, "services that have not stopped in time go on in single-user mode")
    wait_file(machine.share / "shell")


def test_shutdown_from_there(machine):
    start(machine).initctl("single")
    wait_file(machine.share / "shell")
    down(machine)
    assert machine.process.wait(30) == 128 + signal.SIGINT
