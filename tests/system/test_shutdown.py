# SPDX-License-Identifier: MIT
"""The way down: it is in order, it is bounded, and it always ends, by the signal that says how."""
import os
import pathlib
import signal

import pytest

from helpers import FOREVER, connect, cpu_usec, down, script, service, start, wait_file, wait_log
from machine import wait_until

POWEROFF, REBOOT = 128 + signal.SIGINT, 128 + signal.SIGHUP


@pytest.fixture
def booted(machine):
    machine.images["one"].conf(Manager={"ShutdownTimeoutSec": "2s"})
    return machine.start()


@pytest.mark.parametrize("verb, code", [("poweroff", POWEROFF), ("halt", POWEROFF), ("reboot", REBOOT)])
def test_by_request(booted, verb, code):
    service(booted, "a")
    start(booted, "a")
    down(booted, verb)
    assert booted.process.wait(30) == code
    assert "populated 0" in (booted.cgroup / "cgroup.events").read_text()


@pytest.mark.parametrize("number, code", [
    (signal.SIGINT, REBOOT), (signal.SIGPWR, POWEROFF), (signal.SIGRTMIN + 3, POWEROFF),
    (signal.SIGRTMIN + 4, POWEROFF), (signal.SIGRTMIN + 5, REBOOT)])
def test_by_signal(booted, number, code):
    os.kill(booted.pid, number)
    assert booted.process.wait(30) == code


def test_ctrl_alt_del_can_be_ignored(machine):
    machine.images["one"].conf(Manager={"CtrlAltDel": "ignore"})
    machine.start()
    os.kill(machine.pid, signal.SIGINT)
    wait_log(machine, "Ctrl-Alt-Del: ignored")
    assert machine.json("status")["system"]["state"] == "running"


def test_the_stubborn_and_the_stopped(booted):
    """A service that ignores TERM is killed at its deadline, one past the whole deadline too; a session as well."""
    ignore = "/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 1000; done'"
    service(booted, "late", "TimeoutStopSec=200ms", start=ignore)
    service(booted, "never", "TimeoutStopSec=infinity", start=ignore)
    service(booted, "hangs", "TimeoutStopSec=infinity", "ExecStop=/bin/sleep 1000")
    service(booted, "stopped")
    for name in ("late", "never", "hangs", "stopped"):
        start(booted, name)
    os.kill(booted.service_pids("stopped")[0], signal.SIGSTOP)
    session = booted.popen("/bin/sh", "-c", "trap '' TERM HUP; sleep 1000; sleep 1000")
    down(booted)
    assert booted.process.wait(30) == POWEROFF
    session.wait(10)
    session.stdout.close()


def test_a_fork_bomb_ends(booted):
    bomb = ("import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor i in range(4):\n    os.fork()\n"
            "while True:\n    try:\n        if os.fork() and os.fork():\n            os.wait()\n"
            "        else:\n            os._exit(0)\n    except OSError:\n        pass\n")
    service(booted, "bomb", "TimeoutStopSec=infinity", start=script(booted, "bomb", bomb, "/usr/bin/python3"))
    start(booted, "bomb")
    wait_until(lambda: len(booted.service_pids("bomb")) >= 16, what="the bomb")
    down(booted)
    assert booted.process.wait(40) == POWEROFF


def test_waiting_costs_no_cpu(booted):
    os.mkfifo(booted.share / "go")
    service(booted, "a", "ExecStop=/bin/sh -c 'read x </run/share/go'")
    start(booted, "a")
    down(booted)
    booted.wait_state("a", "stopping")
    before = cpu_usec(booted.pid)
    # Its own deadline, of 2 s, is what it waits for now.
    wait_log(booted, "have not stopped in time are killed")
    assert cpu_usec(booted.pid) - before < 200_000, "init spins while it waits"
    assert booted.process.wait(30) == POWEROFF


def test_a_second_word_changes_the_kind_and_nothing_starts_any_more(booted):
    os.mkfifo(booted.share / "go")
    service(booted, "a", "ExecStop=/bin/sh -c 'read x </run/share/go'")
    service(booted, "loop", "Restart=always", "RestartSec=1ms", start="/bin/false")
    service(booted, "b")
    booted.initctl("start", "loop", check=False)
    start(booted, "a")
    down(booted)
    booted.wait_state("a", "stopping")
    assert booted.json("status")["system"]["state"] == "stopping"
    for verb in ("start", "restart"):
        assert booted.initctl(verb, "b", check=False).returncode == 5
    assert booted.initctl("upgrade", "/run/images/two", check=False).returncode == 5
    assert booted.initctl("reexec", check=False).returncode == 5
    os.kill(booted.pid, signal.SIGTERM)
    booted.wait_state("loop", "inactive")
    down(booted, "reboot")
    (booted.share / "go").write_text("x\n")
    assert booted.process.wait(30) == REBOOT


def test_open_connections_and_foreign_mounts_do_not_stop_it(booted):
    clients = [connect(booted) for _ in range(20)]
    booted.run("/bin/sh", "-c", "mkdir -p /tmp/a/b; mount -t tmpfs x /tmp/a; mkdir /tmp/a/b; mount -t tmpfs y /tmp/a/b;"
               "mount --bind /tmp/a/b /home")
    service(booted, "a", "WorkingDirectory=/tmp/a/b")
    start(booted, "a")
    down(booted)
    assert booted.process.wait(30) == POWEROFF
    for client in clients:
        client.close()


def test_down_before_it_is_up(machine):
    """In the first moment, with everything still starting."""
    texts = {f"s{i}": f"[Service]\nExecStartPre=/bin/sleep 0.0{i}\nExecStart={FOREVER}\n" for i in range(10)}
    for name, text in texts.items():
        machine.images["one"].service(name, text)
    machine.images["one"].conf(services=[f"{name}.service" for name in texts])
    machine.start()
    os.kill(machine.pid, signal.SIGINT)
    assert machine.process.wait(30) == REBOOT


def test_zombies_are_buried(booted):
    """5,000 orphans: none is left, and init answers while it buries them."""
    storm = ("import os\nfor i in range(5000):\n    if os.fork() == 0:\n        if os.fork() == 0:\n            os._exit(0)\n"
             "        os._exit(0)\n    os.wait()\nopen('/run/share/done', 'w').write('done')\nimport signal; signal.pause()\n")
    service(booted, "storm", start=script(booted, "storm", storm, "/usr/bin/python3"))
    start(booted, "storm")
    while not (booted.share / "done").exists():
        booted.initctl("status", timeout=10)
    wait_file(booted.share / "done")

    def children():
        return pathlib.Path(f"/proc/{booted.pid}/task/{booted.pid}/children").read_text().split()

    wait_until(lambda: len(children()) == 1, what="the last burial")
