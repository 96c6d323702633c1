# SPDX-License-Identifier: MIT
"""The notification socket: whose word counts, and what nonsense does."""
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess

import pytest

from helpers import answer, request, script, service, start, state, wait_log
from machine import wait_until

SO_PASSPIDFD, SCM_PIDFD, PIDFD_GET_INFO = 76, 4, 0xC040FF0B

SEND = """
import array, os, socket, sys
def send(text, fds=()):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ.get("NOTIFY_SOCKET", "/run/molt/notify"))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([text if isinstance(text, bytes) else text.encode()], rights)
def wait(name):
    return open("/run/share/" + name).read()
"""


@pytest.fixture
def booted(machine):
    os.mkfifo(machine.share / "go")
    return machine.start()


def notifier(machine, name, text, *lines):
    program = script(machine, name, SEND + text, "/usr/bin/python3")
    service(machine, name, "Type=notify", "TimeoutStartSec=20", *lines, start=program)


def go(machine):
    (machine.share / "go").write_text("x\n")


def test_ready_status_and_stopping(booted):
    notifier(booted, "a", "wait('go')\nsend('STATUS=half\\nREADY=1\\nUNKNOWN=1\\nnonsense\\n')\nwait('go')\n"
             "send('STATUS=' + 'x' * 3000)\nsend('STOPPING=1')\nwait('go')\n")
    client = request(booted, "start", unit="a.service")
    booted.wait_state("a", "starting")
    go(booted)
    assert answer(client)[0] == "ok"
    assert booted.unit("a")["status"] == "half"
    go(booted)
    wait_log(booted, "says that it is stopping")
    assert booted.unit("a")["status"] == "x" * 200


def test_a_child_may_speak_for_the_service(booted):
    notifier(booted, "a", "if os.fork() == 0:\n    send('READY=1')\n    wait('go')\nelse:\n    os.wait()\n")
    start(booted, "a")


def tells_of_the_dead():
    """Whether a socket of this kernel gives a pidfd of who has been reaped, and that its cgroup (Linux 6.16)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        with contextlib.suppress(OSError):
            ours.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
        subprocess.run(["/bin/echo", "x"], stdout=theirs.fileno(), check=True)
        for _, kind, data in ours.recvmsg(10, 200)[1]:
            pidfd = struct.unpack("i", data[:4])[0]
            if kind == SCM_PIDFD and pidfd >= 0:
                info = bytearray(struct.pack("Q", 0b1100).ljust(64, b"\0"))
                with contextlib.suppress(OSError):
                    fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
                    os.close(pidfd)
                    return struct.unpack("Q", info[:8])[0] & 0b1100 == 0b1100
    return False


def test_the_word_of_a_child_that_is_gone(booted):
    """It has ended, and its parent has buried it, before PID 1 gets to read what it said: it is still the service's,
    where the kernel knows where it was."""
    notifier(booted, "a", "wait('go')\nif os.fork() == 0:\n    send('STATUS=last words\\nREADY=1')\n    os._exit(0)\nos.wait()\n"
             "open('/run/share/gone', 'w').close()\nwait('go')\n")
    client = request(booted, "start", unit="a.service")
    booted.wait_state("a", "starting")
    before = sorted(os.listdir(f"/proc/{booted.pid}/fd"))
    os.kill(booted.pid, signal.SIGSTOP)
    try:
        go(booted)
        wait_until((booted.share / "gone").exists, what="the end of the child")
    finally:
        os.kill(booted.pid, signal.SIGCONT)
    if tells_of_the_dead():
        assert answer(client)[0] == "ok"
        assert booted.unit("a")["status"] == "last words"
    else:
        wait_log(booted, "which is of no service: ignored")
        assert booted.unit("a")["state"] == "starting"
    wait_until(lambda: len(os.listdir(f"/proc/{booted.pid}/fd")) <= len(before), what="as many descriptors as before")


def test_a_stranger_that_is_gone_has_no_say(booted):
    notifier(booted, "a", "wait('go')\nsend('READY=1')\nwait('go')\n")
    client = request(booted, "start", unit="a.service")
    booted.wait_state("a", "starting")
    stranger = script(booted, "stranger", SEND + "send('READY=1\\nSTATUS=forged')\n", "/usr/bin/python3")
    process = booted.popen(stranger, cgroup="stranger")
    os.kill(booted.pid, signal.SIGSTOP)
    try:
        process.communicate(timeout=20)
    finally:
        os.kill(booted.pid, signal.SIGCONT)
    wait_log(booted, "which is of no service: ignored")
    assert booted.unit("a")["state"] == "starting"
    go(booted)
    assert answer(client)[0] == "ok" and not booted.unit("a")["status"]


def test_strangers_have_no_say(booted):
    """Neither a session nor another service, root or not, can make it ready, or itself its main process."""
    notifier(booted, "a", "wait('go')\nsend('READY=1')\nwait('go')\n")
    client = request(booted, "start", unit="a.service")
    first = booted.wait_state("a", "starting")["main_pid"]
    stranger = script(booted, "stranger", SEND + "send('READY=1\\nSTATUS=forged\\nMAINPID=%d' % os.getpid())\n"
                      "wait('go')\n", "/usr/bin/python3")
    booted.popen(stranger, cgroup="session").stdout.close()
    wait_log(booted, "which is of no service")
    service(booted, "other", start=stranger)
    start(booted, "other")
    wait_until(lambda: booted.unit("other").get("status") == "forged", what="the other's own status")
    unit = booted.unit("a")
    assert (unit["state"], unit["main_pid"], unit.get("status")) == ("starting", first, None)
    for _ in range(2):
        go(booted)
    if state(booted, "a") == "starting":
        go(booted)
    assert answer(client)[0] == "ok"


def test_main_pid(booted):
    """Of the service's own: taken. Of a stranger, of PID 1, of nobody, nonsense: not."""
    service(booted, "other")
    start(booted, "other")
    stranger = booted.unit("other")["main_pid"]
    notifier(booted, "a", f"for bad in ('{stranger}', '1', '0', '-5', '999999', '', 'x', '9' * 30):\n"
             "    send('MAINPID=' + bad)\nchild = os.fork()\nif child == 0:\n    wait('go')\n    os._exit(3)\n"
             "send('MAINPID=%d\\nREADY=1\\nSTATUS=%d' % (child, child))\nos.wait()\nwait('go')\n")
    start(booted, "a")
    unit = booted.unit("a")
    assert unit["main_pid"] == int(unit["status"])
    assert booted.log().count("cannot take MAINPID=") + booted.log().count("is no process id") == 8, booted.log()
    go(booted)
    # It was somebody else's child, so only that it has ended is known.
    wait_until(lambda: state(booted, "a") in ("inactive", "failed"), what="the end of a")
    assert state(booted, "other") == "running"


def test_barrier_and_descriptors_are_closed(booted):
    notifier(booted, "a", "import select\nr, w = os.pipe()\nsend('BARRIER=1', [w])\nos.close(w)\n"
             "assert select.select([r], [], [], 10)[0] and os.read(r, 1) == b''\n"
             "many = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]\n"
             "for i in range(30):\n    send('STATUS=%d' % i, many)\nsend('READY=1')\nwait('go')\n")
    before = len(os.listdir(f"/proc/{booted.pid}/fd"))
    start(booted, "a")
    assert len(os.listdir(f"/proc/{booted.pid}/fd")) <= before + 8


def test_hostile_datagrams(booted):
    notifier(booted, "a", "send(b'')\nsend(b'\\0\\0\\0')\nsend(b'READY=1\\n' + b'x' * 100000)\nsend('=1\\n=\\n\\n\\n')\n"
             "send(b'STATUS=\\x1b[31m\\xff\\xfe%s%n')\nsend('EXTEND_TIMEOUT_USEC=99999999999999999999')\n"
             "send('READY=0')\nsend('READY')\nwait('go')\nsend('X' * 4000 + '\\nREADY=1')\nwait('go')\n")
    client = request(booted, "start", unit="a.service")
    wait_until(lambda: booted.unit("a").get("status"), what="the last of them")
    assert state(booted, "a") == "starting"
    go(booted)
    assert answer(client)[0] == "ok"


def test_a_flood_does_not_starve_the_others(booted):
    notifier(booted, "flood", "send('READY=1')\nimport itertools\nfor i in itertools.count():\n    send('STATUS=%d' % i)\n")
    start(booted, "flood")
    service(booted, "b")
    for _ in range(5):
        start(booted, "b", timeout=10)
        start(booted, "b", verb="stop", timeout=10)
    start(booted, "flood", verb="stop", timeout=10)


def test_extend_timeout(booted):
    notifier(booted, "a", "send('EXTEND_TIMEOUT_USEC=20000000')\nwait('go')\nsend('READY=1')\nwait('go')\n",
             "TimeoutStartSec=1s")
    client = request(booted, "start", unit="a.service")
    booted.wait_state("a", "starting")
    # Nothing to wait for but time itself: its own deadline passes and nothing happens.
    service(booted, "clock", "Type=oneshot", start="/bin/sleep 1.3")
    start(booted, "clock")
    assert state(booted, "a") == "starting"
    go(booted)
    assert answer(client)[0] == "ok"


# Socket activation


def talk(machine, port=None, path=None):
    """From inside: the network is the machine's own."""
    code = ("import socket,sys\n" + (f"s=socket.create_connection(('127.0.0.1',{port}),5)\n" if port else
            f"s=socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect({path!r})\n") +
            "s.settimeout(10); print(s.makefile().readline())")
    return machine.popen("/usr/bin/python3", "-c", code)


SERVER = """
import os, socket, sys
assert int(os.environ["LISTEN_PID"]) == os.getpid()
count = int(os.environ["LISTEN_FDS"])
assert os.environ["LISTEN_FDNAMES"].count(":") == count - 1
if os.path.exists("/run/share/crash"):
    os.kill(os.getpid(), 9)
import select
sockets = [socket.socket(fileno=3 + i) for i in range(count)]
while True:
    for s in select.select(sockets, [], [])[0]:
        c, _ = s.accept()
        c.send(b"pid %d\\n" % os.getpid())
        c.close()
"""


def test_sockets_survive_a_crash_and_queue(booted):
    program = script(booted, "server", SERVER, "/usr/bin/python3")
    service(booted, "s", "Restart=always", "RestartSec=10ms", start=program,
            sections="[Socket]\nListenStream=8080\nListenStream=/run/s.sock\nListenStream=@abstract\n")
    start(booted, "s")
    places = ({"port": 8080}, {"path": "/run/s.sock"}, {"path": "\0abstract"})
    for place in places:
        assert "pid" in talk(booted, **place).communicate(timeout=20)[0], booted.report()
    (booted.share / "crash").write_text("")
    booted.run("/bin/sh", "-c", f"kill -9 {booted.unit('s')['main_pid']}")
    wait_until(lambda: booted.unit("s")["restarts"] >= 2, what="the crash loop")
    clients = [talk(booted, **place) for place in places]
    wait_until(lambda: booted.unit("s")["restarts"] >= 4, what="the crash loop")
    (booted.share / "crash").unlink()
    for client in clients:
        assert "pid" in client.communicate(timeout=20)[0], booted.report()
    # Whoever stops it means that nobody answers any more.
    start(booted, "s", verb="stop")
    assert "refused" in talk(booted, **places[0]).communicate(timeout=20)[0].lower()
    start(booted, "s")
    assert "pid" in talk(booted, **places[1]).communicate(timeout=20)[0]
    start(booted, "s", verb="restart")
    assert "pid" in talk(booted, **places[0]).communicate(timeout=20)[0]


def test_socket_that_cannot_be_had_is_named(booted):
    first = "[Socket]\nListenStream=8080\n"
    service(booted, "a", sections=first)
    service(booted, "b", sections=first)
    service(booted, "c", sections="[Socket]\nListenStream=/nowhere/at/all.sock\n")
    start(booted, "a")
    assert "cannot listen on 8080: Address already in use" in start(booted, "b", code=1)
    assert "/nowhere/at/all.sock: No such file" in start(booted, "c", code=1)
