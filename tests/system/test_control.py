# SPDX-License-Identifier: MIT
"""The control socket under bad manners: who may what, and that nobody can keep root out."""
import os
import resource
import socket

import pytest

from helpers import answer, connect, request, service, start, state, wait_log
from machine import wait_until


@pytest.fixture
def booted(machine):
    os.mkfifo(machine.share / "go")
    return machine.start()


def as_nobody(machine, *argv):
    return machine.run("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv, check=False)


CHANGES = [("start", "a"), ("stop", "a"), ("restart", "a"), ("reload", "a"), ("plan", "/run/images/two"),
           ("upgrade", "/run/images/two"), ("commit",), ("rollback",), ("holders",), ("reexec",), ("poweroff",),
           ("reboot",), ("halt",)]


def test_who_may_what(booted):
    service(booted, "a")
    start(booted, "a")
    main = booted.unit("a")["main_pid"]
    for argv in CHANGES:
        result = as_nobody(booted, "/usr/bin/initctl", *argv)
        assert result.returncode == 6, (argv, result.stdout)
    for argv in (("status",), ("status", "a"), ("version",)):
        assert as_nobody(booted, "/usr/bin/initctl", *argv).returncode == 0
    assert booted.unit("a")["main_pid"] == main
    assert booted.json("status")["system"]["state"] == "running"


@pytest.mark.parametrize("packet", [
    b"\0", b"\n", b"@", b"@request", b"@request \n\n", b"@request status", b"@result ok\n\n", b"status", b"\xff" * 1000,
    b"@request start\nunit=\n\n", b"@request start\n\n", b"@request start\nunit=" + b"x" * 60000 + b"\n\n",
    b"@request " + b"y" * 60000 + b"\n\n", b"@request status\n" + b"k=v\n" * 10000 + b"\n",
    b"@request start\nunit=%s%n%s\n\n", b"@request plan\npath=\n\n", b"@request status\nunit=../x\n\n",
    b"@request status\n\n@request poweroff\n\n", b"@request log\n\n", b"@request reload\nunit=\\x00\n\n",
    b"@request start\nunit=" + b"z" * 100000 + b"\n\n"])
def test_garbage_gets_an_answer(booted, packet):
    client = connect(booted)
    client.send(packet)
    result, _ = answer(client)
    assert result in ("usage", "failed", "not-found", "ok")
    assert booted.json("status")["system"]["state"] == "running"


def test_hangs_up_at_every_moment(booted):
    service(booted, "slow", "Type=oneshot", start="/bin/sh -c 'read x </run/share/go'")
    for _ in range(50):
        connect(booted).close()
        request(booted, "status").close()
    request(booted, "start", unit="slow.service").close()
    booted.wait_state("slow", "starting")
    # What was asked for happens all the same.
    (booted.share / "go").write_text("x\n")
    booted.wait_state("slow", "inactive")


def test_killed_initctl(booted):
    service(booted, "slow", "Type=oneshot", start="/bin/sh -c 'read x </run/share/go'")
    client = booted.popen("/usr/bin/initctl", "start", "slow")
    booted.wait_state("slow", "starting")
    client.kill()
    client.wait(10)
    client.stdout.close()
    (booted.share / "go").write_text("x\n")
    booted.wait_state("slow", "inactive")


IDLE = """
import os, socket, sys
os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
held = []
for i in range(200):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(5)
    try:
        s.connect("/run/molt/control")
        held.append(s)
    except OSError:
        pass
print(len(held), flush=True)
sys.stdin.read()
"""


def test_two_hundred_idle_connections_of_a_stranger(booted):
    import subprocess
    crowd = booted.popen("/usr/bin/python3", "-c", IDLE, stdin=subprocess.PIPE)
    assert int(crowd.stdout.readline()) > 64
    for _ in range(3):
        assert booted.initctl("status", timeout=10).returncode == 0
    wait_log(booted, "some are turned away")
    assert booted.log().count("turned away") < 20
    crowd.communicate(timeout=10)
    wait_until(lambda: as_nobody(booted, "/usr/bin/initctl", "status").returncode == 0, what="room for others")


def test_three_hundred_idle_connections_of_root(booted):
    """Who asks nothing gives way to who does, as long as anybody does not; nobody is left without a word."""
    idle = [connect(booted) for _ in range(300)]
    assert booted.upgrade("two")[0] == 0
    waiting = [request(booted, "start", unit="x.service") for _ in range(20)]
    assert {answer(client)[0] for client in waiting} == {"not-found"}
    for client in idle:
        client.close()


def test_no_place_is_told(booted):
    service(booted, "slow", "Type=oneshot", start="/bin/sh -c 'read x </run/share/go'")
    waiting = [request(booted, "start", unit="slow.service") for _ in range(128)]
    result = booted.initctl("status", check=False)
    assert result.returncode == 5 and "too many clients" in result.stdout, result
    (booted.share / "go").write_text("x\n")
    assert {answer(client)[0] for client in waiting} == {"ok"}


def test_what_cannot_begin_is_refused(booted):
    """PID 1 at its limit of descriptors."""
    _, hard = resource.prlimit(booted.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(booted.pid, resource.RLIMIT_NOFILE, (24, hard))
    code, told = booted.upgrade("two", check=False)
    assert code == 3 and told[-1]["text"].startswith("refused: "), told
    resource.prlimit(booted.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert booted.upgrade("two")[0] == 0


def test_slow_reader(booted):
    """Answers that nobody fetches are kept within bounds and hold up nobody."""
    for i in range(60):
        service(booted, f"s{i:02}", unit=("Description=" + "long " * 700,))
        start(booted, f"s{i:02}")
    slow = []
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(str(booted.path("/run/molt/control")))
        client.settimeout(20)
        client.send(b"@request status\n\n")
        slow.append(client)
    booted.initctl("status", timeout=10)
    for client in slow:
        result, records = answer(client)
        assert result == "ok" and len(records) == 61


def test_full_disk_under_the_logs(booted):
    """A service whose log cannot be written runs; so do the others, and what PID 1 says itself."""
    booted.run("mount", "-t", "tmpfs", "-o", "size=64k", "full", "/var/log")
    booted.run("/bin/sh", "-c", "mkdir -p /var/log/molt; cat /dev/zero >/var/log/fill 2>/dev/null; true")
    service(booted, "a", start="/bin/sh -c 'echo hello; exec sleep 1000'")
    service(booted, "b")
    for name in "ab":
        start(booted, name)
        assert state(booted, name) == "running"


def test_logs_are_kept_and_rotated(machine):
    machine.images["one"].conf(Manager={"LogMaxSize": "1K"})
    machine.start()
    service(machine, "a", "Type=oneshot", start="/bin/sh -c 'echo out; echo err >&2; head -c 2000 /dev/zero | tr \"\\\\\\\\0\" x'")
    start(machine, "a")
    log = machine.path("/var/log/molt/a.log")
    assert log.read_text().startswith("out\nerr\nxxx")
    assert log.stat().st_mode & 0o007 == 0
    assert "xxx" in machine.initctl("log", "a").stdout
    start(machine, "a")
    assert machine.path("/var/log/molt/a.log.1").stat().st_size >= 2000
    assert log.stat().st_size < 3000
    # Where there is no place for it, it goes to /run.
    machine.run("mount", "-t", "tmpfs", "-o", "ro", "none", "/var/log")
    start(machine, "a")
    assert machine.path("/run/molt/log/a.log").read_text().startswith("out\n")
    assert "xxx" in machine.initctl("log", "a").stdout
