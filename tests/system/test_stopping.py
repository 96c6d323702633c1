# SPDX-License-Identifier: MIT
"""How services end: by KillMode=, by deadline, by themselves; and how they come back by Restart=."""
import os
import signal

import pytest

from helpers import answer, outside, request, script, service, start, state, stop, wait_file, wait_log, wait_said
from machine import wait_until

STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 1000; done'"


@pytest.fixture
def booted(machine):
    return machine.start()


def tree(machine, name, count):
    return wait_until(lambda: len(machine.service_pids(name)) >= count and machine.service_pids(name),
                      what=f"{count} processes of {name}")


def test_a_process_that_ignores_term_is_killed(booted):
    service(booted, "a", "TimeoutStopSec=200ms", start=STUBBORN)
    start(booted, "a")
    wait_file(booted.path("/var/log/molt/a.log"))
    stop(booted, "a")
    assert booted.service_pids("a") == []
    assert state(booted, "a") == "failed"
    assert "had to be killed" in booted.unit("a")["result"]
    start(booted, "a")


def test_a_stopped_process_is_woken_to_end(booted):
    service(booted, "a")
    start(booted, "a")
    os.kill(booted.service_pids("a")[0], signal.SIGSTOP)
    stop(booted, "a", timeout=10)


@pytest.mark.parametrize("signame", ["INT", "USR1"])
def test_kill_signal(booted, signame):
    program = script(booted, "p", f"trap 'echo {signame} >/run/share/got; exit 0' {signame}\necho up\n"
                     # Not "sleep & wait": a signal just before the wait would wait as long.
                     "while :; do sleep 0.05; done")
    service(booted, "a", f"KillSignal=SIG{signame}", "KillMode=mixed", start=program)
    start(booted, "a")
    wait_file(booted.path("/var/log/molt/a.log"))
    stop(booted, "a", timeout=10)
    assert wait_file(booted.share / "got") == f"{signame}\n"


def test_kill_mode_mixed_kills_the_rest_at_once(booted):
    """The event that the cgroup is empty must not get lost between the two: this would take 90 s then."""
    service(booted, "alone", "KillMode=mixed")
    for _ in range(10):
        start(booted, "alone")
        stop(booted, "alone", timeout=5)
    program = script(booted, "p", "sh -c 'trap \"\" TERM; while :; do sleep 1000; done' & exec sleep 1000")
    service(booted, "a", "KillMode=mixed", start=program)
    start(booted, "a")
    tree(booted, "a", 3)
    stop(booted, "a", timeout=5)
    assert booted.service_pids("a") == []
    # The main process goes by itself: what it leaves behind is not the service any more.
    start(booted, "a")
    tree(booted, "a", 3)
    os.kill(outside(booted, booted.unit("a")["main_pid"]), signal.SIGTERM)
    booted.wait_state("a", "inactive", 5)
    assert booted.service_pids("a") == []


def test_kill_mode_process_leaves_the_children(booted):
    program = script(booted, "p", "sleep 1000 & exec sleep 1000")
    service(booted, "a", "KillMode=process", start=program)
    start(booted, "a")
    pids = tree(booted, "a", 2)
    main = outside(booted, booted.unit("a")["main_pid"])
    child = next(pid for pid in pids if pid != main)
    stop(booted, "a", timeout=5)
    assert booted.service_pids("a") == [child]
    # Neither does the end of the main process by itself end them.
    start(booted, "a")
    pids = tree(booted, "a", 3)
    os.kill(outside(booted, booted.unit("a")["main_pid"]), signal.SIGTERM)
    booted.wait_state("a", "inactive", 5)
    assert len(booted.service_pids("a")) == 2
    # Their cgroups go when they have gone, whoever of PID 1's lives hears of it.
    left = [d for d in booted.cgroups("a.service") if d.name.isdigit()]
    assert len(left) == 2
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: sum(d.exists() for d in left) == 1, what="one cgroup less")
    booted.initctl("reexec")
    for pid in booted.service_pids("a"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(d.exists() for d in left), what="no cgroup left")


def test_kill_mode_process_kills_a_stubborn_main_process_alone(booted):
    program = script(booted, "p", "sleep 1000 & trap '' TERM; echo up; while :; do sleep 1000; done")
    service(booted, "a", "KillMode=process", "TimeoutStopSec=200ms", start=program)
    start(booted, "a")
    wait_file(booted.path("/var/log/molt/a.log"))
    stop(booted, "a", timeout=5)
    assert len(booted.service_pids("a")) >= 1


def test_kill_mode_none_kills_nobody(booted):
    service(booted, "a", "KillMode=none")
    start(booted, "a")
    stop(booted, "a", timeout=5)
    assert len(booted.service_pids("a")) == 1


def test_stop_post_runs_after_a_start_that_was_broken_off(booted):
    """ExecStartPre= is still to be reaped when ExecStopPost= is started: not in the same place."""
    service(booted, "a", "ExecStartPre=/bin/sleep 1000", "ExecStopPost=/bin/sh -c 'echo post >>/run/share/post'")
    for _ in range(5):
        client = booted.popen("/usr/bin/initctl", "start", "a")
        booted.wait_state("a", "start-pre")
        stop(booted, "a", timeout=5)
        client.wait(5)
        client.stdout.close()
    assert (booted.share / "post").read_text().split() == ["post"] * 5
    booted.run("/bin/true", timeout=10)


def test_stop_post_runs_after_what_had_to_be_killed(booted):
    """Since Linux 6.14 nothing can be born into a cgroup that was killed once."""
    service(booted, "a", "TimeoutStopSec=200ms", "ExecStopPost=/bin/sh -c 'echo post >>/run/share/post'", start=STUBBORN)
    start(booted, "a")
    wait_said(booted, "a", "up")
    stop(booted, "a", timeout=5)
    assert (booted.share / "post").read_text() == "post\n", booted.report()
    wait_log(booted, "had to be killed")
    assert booted.service_pids("a") == [] and [d for d in booted.cgroups("a.service") if d.name.isdigit()] == []


def test_start_timeout(booted):
    service(booted, "n", "Type=notify", "TimeoutStartSec=200ms")
    assert "not ready within 200 ms" in start(booted, "n", code=1)
    service(booted, "p", "TimeoutStartSec=200ms", "ExecStartPre=/bin/sleep 1000")
    assert "not ready within 200 ms" in start(booted, "p", code=1)
    assert booted.service_pids("n") + booted.service_pids("p") == []


def test_stop_commands_that_hang(booted):
    service(booted, "a", "TimeoutStopSec=200ms", "ExecStop=/bin/sleep 1000", "ExecStopPost=/bin/sleep 1000")
    start(booted, "a")
    stop(booted, "a", timeout=10)
    wait_until(lambda: booted.service_pids("a") == [], what="the end of all its processes")
    wait_log(booted, "ExecStop= took too long")
    wait_log(booted, "ExecStopPost= took too long")


def restarts(machine, name, count, timeout=20):
    wait_until(lambda: machine.unit(name)["restarts"] >= count, timeout, f"{count} restarts of {name}")


@pytest.mark.parametrize("when, program, again", [
    ("no", "/bin/false", False), ("always", "/bin/true", True), ("always", "/bin/false", True),
    ("on-failure", "/bin/true", False), ("on-failure", "/bin/false", True),
    ("on-success", "/bin/true", True), ("on-success", "/bin/false", False),
    ("on-abnormal", "/bin/false", False), ("on-abnormal", "/bin/sh -c 'kill -KILL $$$$'", True),
    ("on-abort", "/bin/sh -c 'kill -SEGV $$$$'", True), ("on-failure", "/bin/sh -c 'kill -TERM $$$$'", False),
])
def test_restart(booted, when, program, again):
    service(booted, "a", f"Restart={when}", "RestartSec=1ms", start=program)
    booted.initctl("start", "a", check=False)
    if again:
        restarts(booted, "a", 2)
    else:
        wait_until(lambda: state(booted, "a") in ("inactive", "failed"), what="the end of a")
        assert booted.unit("a")["restarts"] == 0


def test_backoff_grows_and_a_stop_ends_it(booted):
    service(booted, "a", "Restart=always", "RestartSec=0", start="/bin/sh -c 'date +%%s%%N >>/run/share/times; exit 1'")
    booted.initctl("start", "a", check=False)
    restarts(booted, "a", 8)
    times = [int(line) for line in (booted.share / "times").read_text().split()]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert gaps[6] > 64e6 and gaps[6] > gaps[2], gaps
    booted.wait_state("a", "backoff")
    stop(booted, "a")
    assert state(booted, "a") == "inactive"
    count = booted.unit("a")["restarts"]
    start(booted, "a")
    restarts(booted, "a", count + 1)


def test_restart_in_every_state(booted):
    service(booted, "a", "ExecStop=/bin/sh -c 'read x </run/share/go'")
    os.mkfifo(booted.share / "go")
    start(booted, "a")
    first = booted.unit("a")["main_pid"]
    client = request(booted, "restart", unit="a.service")
    booted.wait_state("a", "stopping")
    again = request(booted, "restart", unit="a.service")
    assert state(booted, "a") == "stopping"
    (booted.share / "go").write_text("1\n")
    assert answer(client)[0] == answer(again)[0] == "ok", booted.report()
    assert booted.unit("a")["main_pid"] != first
    # While it starts.
    service(booted, "slow", "Type=notify", "TimeoutStartSec=60")
    waiting = request(booted, "start", unit="slow.service")
    booted.wait_state("slow", "starting")
    first = booted.unit("slow")["main_pid"]
    service(booted, "slow")
    start(booted, "slow", verb="restart")
    assert answer(waiting)[0] == "ok"
    assert state(booted, "slow") == "running" and booted.unit("slow")["main_pid"] != first
    # A broken edit leaves it as it is.
    service(booted, "slow", "Type=sideways")
    first = booted.unit("slow")["main_pid"]
    assert "goes on as it is" in start(booted, "slow", code=1, verb="restart")
    assert booted.unit("slow")["main_pid"] == first


def test_start_while_it_stops_comes_back_with_what_it_needs(booted):
    os.mkfifo(booted.share / "go")
    service(booted, "db")
    service(booted, "web", "ExecStop=/bin/sh -c 'read x </run/share/go'", unit=("Requires=db.service", "After=db.service"))
    start(booted, "web")
    stopping = request(booted, "stop", unit="db.service")
    booted.wait_state("web", "stopping")
    starting = request(booted, "start", unit="web.service")
    assert state(booted, "web") == "stopping"
    (booted.share / "go").write_text("1\n")
    assert answer(starting)[0] == "ok", booted.report()
    assert answer(stopping)[0] == "failed"
    assert state(booted, "web") == state(booted, "db") == "running"


def test_who_forks_as_fast_as_it_can_is_stopped(booted):
    program = script(booted, "bomb", "import os\nfor i in range(4):\n    os.fork()\n"
                     "while True:\n    try:\n        if os.fork() == 0:\n            if os.fork() == 0:\n"
                     "                os._exit(0)\n            os._exit(0)\n        os.wait()\n"
                     "    except OSError:\n        pass\n", "/usr/bin/python3")
    service(booted, "bomb", "TimeoutStopSec=500ms", start=program)
    start(booted, "bomb")
    tree(booted, "bomb", 16)
    start_of_status = state(booted, "bomb")
    assert start_of_status == "running"
    stop(booted, "bomb", timeout=20)
    assert booted.service_pids("bomb") == []
