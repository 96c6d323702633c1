# SPDX-License-Identifier: MIT
"""Each Type= of service through its life: how it becomes ready, what it is given, how it is stopped."""
import os
import signal

import pytest

from helpers import FOREVER, answer, outside, request, script, service, start, state, stop, wait_file, wait_log
from machine import Machine, wait_until


@pytest.fixture
def booted(machine):
    return machine.start()


def test_simple_starts_and_stops(booted):
    service(booted, "a")
    start(booted, "a")
    unit = booted.unit("a")
    assert unit["state"] == "running" and unit["main_pid"] > 1
    stop(booted, "a")
    assert state(booted, "a") == "inactive"
    assert booted.service_pids("a") == []


def test_exec_of_nothing_is_named(booted):
    """By name and reason, for every command there is, with exit code 1."""
    service(booted, "simple", start="/nowhere/simple")
    service(booted, "exec", "Type=exec", start="/nowhere/exec")
    service(booted, "forking", "Type=forking", "PIDFile=/run/f.pid", start="/nowhere/forking")
    service(booted, "pre", "ExecStartPre=/nowhere/pre")
    service(booted, "notdir", start="/etc/os-release/x")
    service(booted, "noexec", start="/etc/os-release")
    for name, text in (("simple", "/nowhere/simple: No such file or directory"),
                       ("exec", "/nowhere/exec: No such file or directory"),
                       ("forking", "/nowhere/forking: No such file or directory"),
                       ("pre", "/nowhere/pre: No such file or directory"),
                       ("notdir", "Not a directory"), ("noexec", "Permission denied")):
        said = start(booted, name, code=1)
        assert text in said, (name, said, booted.report())
        assert state(booted, name) == "failed"


def test_dash_ignores_the_failure(booted):
    service(booted, "a", "ExecStartPre=-/nowhere/pre", "ExecStartPre=-/bin/false")
    start(booted, "a")
    assert state(booted, "a") == "running"
    service(booted, "b", start="-/bin/false")
    start(booted, "b")
    booted.wait_state("b", "inactive")


def test_exec_type_that_ends_at_once_was_ready(booted):
    service(booted, "a", "Type=exec", "ExecStopPost=/bin/sh -c 'echo post >/run/share/post'", start="/bin/true")
    for _ in range(10):
        start(booted, "a")
        booted.wait_state("a", "inactive")
    assert wait_file(booted.share / "post") == "post\n"


DAEMON = "(echo $$ >/dev/null; exec sleep 1000) & echo $! >/run/d.pid; exit 0"


def test_forking_with_pid_file(booted):
    program = script(booted, "daemon", DAEMON)
    service(booted, "d", "Type=forking", "PIDFile=/run/d.pid", start=program)
    start(booted, "d")
    assert booted.unit("d")["main_pid"] == int(booted.path("/run/d.pid").read_text())
    os.kill(outside(booted, booted.unit("d")["main_pid"]), signal.SIGKILL)
    booted.wait_state("d", "failed")


def test_forking_with_a_late_pid_file(booted):
    os.mkfifo(booted.share / "go")
    program = script(booted, "daemon", "(read x </run/share/go; exec sh -c 'echo $$ >/run/d.pid; exec sleep 1000') & exit 0")
    service(booted, "d", "Type=forking", "PIDFile=/run/d.pid", start=program)
    client = booted.popen("/usr/bin/initctl", "start", "d")
    booted.wait_state("d", "starting")
    wait_until(lambda: len(booted.service_pids("d")) == 1, what="the end of the starter")
    (booted.share / "go").write_text("now\n")
    assert client.wait(20) == 0, booted.report()
    client.stdout.close()
    assert booted.unit("d")["main_pid"] == int(booted.path("/run/d.pid").read_text())


@pytest.mark.parametrize("content", ["1", "999999", "no number", "", "-1", "99999999999999999999"])
def test_forking_with_a_wrong_pid(booted, content):
    """PID 1's own, nobody's, nonsense: none of them becomes the main process, and the start ends in time."""
    program = script(booted, "daemon", f"sleep 1000 & echo '{content}' >/run/d.pid; exit 0")
    service(booted, "d", "Type=forking", "PIDFile=/run/d.pid", "TimeoutStartSec=300ms", start=program)
    said = start(booted, "d", code=1)
    assert "PIDFile=/run/d.pid names no process of this service" in said, booted.report()
    assert booted.service_pids("d") == []


def test_forking_with_a_strangers_pid(booted):
    service(booted, "other")
    start(booted, "other")
    stranger = booted.unit("other")["main_pid"]
    program = script(booted, "daemon", f"sleep 1000 & echo {stranger} >/run/d.pid; exit 0")
    service(booted, "d", "Type=forking", "PIDFile=/run/d.pid", "TimeoutStartSec=300ms", start=program)
    start(booted, "d", code=1)
    assert state(booted, "other") == "running"
    assert booted.unit("other")["main_pid"] == stranger


def test_pid_file_that_is_a_pipe_does_not_hold_up_init(booted):
    program = script(booted, "daemon", "rm -f /run/d.pid; mkfifo /run/d.pid; sleep 1000 & exit 0")
    service(booted, "d", "Type=forking", "PIDFile=/run/d.pid", "TimeoutStartSec=300ms", start=program)
    start(booted, "d", code=1, timeout=10)
    assert state(booted, "d") == "failed"


def test_forking_that_leaves_nothing(booted):
    service(booted, "d", "Type=forking", start="/bin/true")
    assert "left no daemon behind" in start(booted, "d", code=1)


def test_oneshot_runs_its_lines_in_order(booted):
    service(booted, "a", "Type=oneshot", "ExecStart=/bin/sh -c 'echo two >>/run/share/out'",
            "ExecStartPost=/bin/sh -c 'echo post >>/run/share/out'", "ExecStop=/bin/sh -c 'echo stop >>/run/share/out'",
            "RemainAfterExit=yes", start="/bin/sh -c 'echo one >>/run/share/out'")
    start(booted, "a")
    assert state(booted, "a") == "exited"
    stop(booted, "a")
    assert (booted.share / "out").read_text().split() == ["one", "two", "post", "stop"]
    service(booted, "b", "Type=oneshot", "ExecStart=/bin/sh -c 'echo never >>/run/share/b'", start="/bin/false")
    start(booted, "b", code=1)
    assert not (booted.share / "b").exists()


def test_oneshot_without_a_start_is_up_until_stopped(booted):
    service(booted, "a", "Type=oneshot", "RemainAfterExit=yes", "ExecStop=/bin/sh -c 'echo stop >/run/share/out'",
            start=None)
    start(booted, "a")
    assert state(booted, "a") == "exited"
    stop(booted, "a")
    assert wait_file(booted.share / "out") == "stop\n"


def test_a_name_without_a_slash_is_looked_for(booted):
    """As systemd-journal-flush.service and sshd-keygen.service have it."""
    service(booted, "a", "Type=oneshot", "Environment=PATH=/nowhere", "ExecStart=no-such-program-anywhere",
            start="echo found")
    assert "cannot execute no-such-program-anywhere: No such file" in start(booted, "a", code=1)
    assert booted.path("/var/log/molt/a.log").read_text().startswith("found")


def test_identity_environment_and_directory(booted):
    (booted.share / "env").write_text("FILE='from file'\nBOTH=file\n# no\n")
    booted.path("/run/work").mkdir()
    service(booted, "a", "Type=oneshot", "User=daemon", "Group=mail", "Environment=ONE=1 'TWO=a b' BOTH=unit",
            "EnvironmentFile=/run/share/env", "EnvironmentFile=-/run/share/missing", "WorkingDirectory=/run/work",
            "UMask=0027", "LimitNOFILE=77", "OOMScoreAdjust=500", "Nice=7", "SupplementaryGroups=tty", "SupplementaryGroups=9 bin",
            start="/bin/sh -c 'id -un; id -gn; id -G; env; pwd; umask; ulimit -n; cat /proc/self/oom_score_adj; echo nice $(nice)'")
    start(booted, "a")
    text = booted.path("/var/log/molt/a.log").read_text().splitlines()
    assert text[:2] == ["daemon", "mail"], text
    assert "0" not in text[2].split()
    assert {"5", "9", "2"} <= set(text[2].split()), text
    for line in ("ONE=1", "TWO=a b", "FILE=from file", "BOTH=file", "USER=daemon", "/run/work", "0027", "77", "500", "nice 7"):
        assert line in text, (line, text)
    assert not [line for line in text if line.startswith("TERM=")]


def test_signals_are_as_they_should_be(tmp_path):
    """However PID 1 was executed: by a shell of an initramfs that has ignored all it could, for one."""
    every = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    with Machine(tmp_path, ignored=every) as machine:
        machine.start()
        for name, line, ignored in (("a", "", {signal.SIGPIPE}), ("b", "IgnoreSIGPIPE=no", set())):
            service(machine, name, "Type=oneshot", line, start="/bin/grep ^Sig /proc/self/status")
            start(machine, name)
            masks = dict(word.split(":\t") for word in machine.path(f"/var/log/molt/{name}.log").read_text().splitlines())
            # Those below SIGRTMIN are libc's own: its posix_spawn(3) leaves them ignored for whatever it starts.
            own = sum(1 << (number - 1) for number in range(32, signal.SIGRTMIN))
            assert int(masks["SigIgn"], 16) & ~own == sum(1 << (number - 1) for number in ignored), masks
            assert int(masks["SigBlk"], 16) == 0, masks


@pytest.mark.parametrize("lines, reason", [
    (("User=nobody-of-that-name",), "no such user"),
    (("User=4294967295",), "4294967295"),
    (("Group=no-such-group",), "Group=no-such-group: no such group"),
    (("SupplementaryGroups=tty no-such-group",), "SupplementaryGroups=no-such-group: no such group"),
    (("WorkingDirectory=/nowhere",), "WorkingDirectory=/nowhere: No such file"),
    (("EnvironmentFile=/nowhere",), "EnvironmentFile=/nowhere: No such file"),
])
def test_what_cannot_be_set_up_is_named(booted, lines, reason):
    """And never ignored: a program meant for another user must not run as root."""
    service(booted, "a", *lines, start="/bin/sh -c 'echo ran as $(id -u) >/run/share/ran'")
    said = start(booted, "a", code=1)
    assert reason in said, said
    assert not (booted.share / "ran").exists()


def test_unknown_keys_warn_and_wrong_values_leave_out_only_theirs(machine):
    image = machine.images["one"]
    image.conf(services=["good.service", "odd.service", "bad.service", "after.service", "gone.service"])
    image.service("good", f"[Service]\nExecStart={FOREVER}\n")
    image.service("odd", f"[Service]\nExecStart={FOREVER}\nFrobnicate=yes\n")
    image.service("bad", f"[Service]\nExecStart={FOREVER}\nType=sideways\n")
    image.service("after", f"[Unit]\nAfter=bad.service\n[Service]\nExecStart={FOREVER}\n")
    machine.start()
    for name in ("good", "odd", "after"):
        machine.wait_state(name)
    log = machine.log()
    assert "odd.service:3" in log and "Frobnicate" in log, log
    assert "bad.service:3" in log and "sideways" in log, log
    assert "gone.service" in log
    assert machine.initctl("status", "bad", check=False).returncode == 7


def test_names_that_lead_elsewhere(booted):
    for name in ("../../etc/passwd", "a/b", "..", ".", "x" * 300, "a b", "\x1b[31m"):
        result = booted.initctl("start", name, check=False)
        assert result.returncode in (1, 2, 7), (name, result.stdout)
    assert booted.json("status")["services"] == []


def test_reload_tells_how_it_went(booted):
    service(booted, "a", "ExecReload=/bin/sh -c 'echo $MAINPID >/run/share/reloaded'")
    service(booted, "b", "ExecReload=/bin/false")
    service(booted, "c", "ExecReload=/nowhere/reload")
    service(booted, "d")
    for name in "abcd":
        start(booted, name)
    start(booted, "a", verb="reload")
    assert int((booted.share / "reloaded").read_text()) == booted.unit("a")["main_pid"]
    assert "exited with code 1" in start(booted, "b", code=1, verb="reload")
    assert "/nowhere/reload" in start(booted, "c", code=1, verb="reload")
    assert "no ExecReload=" in start(booted, "d", code=1, verb="reload")
    for name in "abc":
        assert state(booted, name) == "running"


def test_stop_in_the_middle_of_a_reload(booted):
    """Two commands of one service must not be watched in one place: init would hang on the next child."""
    service(booted, "a", "ExecReload=/bin/sleep 1000", "ExecStop=/bin/sh -c 'read x </run/share/go'")
    os.mkfifo(booted.share / "go")
    start(booted, "a")
    client = request(booted, "reload", unit="a.service")
    booted.wait_state("a", "reloading")
    stopping = request(booted, "stop", unit="a.service")
    booted.wait_state("a", "stopping")
    # An orphan for init to bury, which it has to look for among those it watches.
    service(booted, "orphan", "Type=oneshot", start="/bin/sh -c '(/bin/true &)'")
    start(booted, "orphan", timeout=10)
    (booted.share / "go").write_text("x\n")
    assert answer(stopping)[0] == "ok"
    assert answer(client)[0] in ("ok", "failed")
    assert state(booted, "a") == "inactive"


def test_settled_service_reports_and_removes_its_cgroup(booted):
    service(booted, "a", start="/bin/sh -c 'sleep 1000 & sleep 1000 & wait'")
    start(booted, "a")
    wait_until(lambda: len(booted.service_pids("a")) == 3, what="the children")
    unit = booted.unit("a")
    assert unit["tasks"] == 3 and unit["memory_bytes"] > 0
    stop(booted, "a")
    assert [d.name for d in (booted.cgroup / "tree/a.service").iterdir() if d.is_dir()] == []
    wait_log(booted, "a.service: terminating -> inactive")


def test_the_log_of_a_running_service_is_rotated(machine):
    """LogMaxSize= holds for who runs for long, and no line is missing."""
    image = machine.images["one"]
    image.conf(services=["talker.service"], Manager={"LogMaxSize": "64K"})
    image.service("talker", "[Service]\nExecStart=/bin/sh -c 'i=0; while :; do echo line $i; i=$((i+1)); "
                            "test $i -gt 20000 && read x </run/share/go; done'\n")
    os.mkfifo(machine.share / "go")
    machine.start()
    machine.wait_state("talker")
    log = machine.path("/var/log/molt/talker.log")
    moved = machine.path("/var/log/molt/talker.log.1")
    wait_until(moved.exists, 30, "the rotated log")
    wait_until(lambda: log.stat().st_size <= 65536, 30, "a log within its bounds")
    numbers = [int(line.split()[1]) for line in (moved.read_text() + log.read_text()).splitlines()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a line is missing"
    # It writes on into the same file.
    (machine.share / "go").write_text("x\n")
    wait_until(lambda: log.stat().st_size > 0, what="more of it")
