# SPDX-License-Identifier: MIT
"""The old commands (shutdown, reboot, halt, poweroff, telinit, `init 6`), and a shutdown that is to be later."""
import os
import pathlib
import signal
import struct
import time

import pytest

from helpers import answer, connect, service, start, wait_log
from machine import wait_until

POWEROFF, REBOOT = 128 + signal.SIGINT, 128 + signal.SIGHUP

# Somebody at a terminal: a pty of the machine with a record in its utmp, and what comes on it goes to a file.
LOGIN = r"""
import os, pty, signal, struct
signal.signal(signal.SIGTERM, signal.SIG_IGN)
outer, inner = pty.openpty()
line = os.ttyname(inner)[len("/dev/"):].encode()
with open("/run/utmp", "ab") as f:
    f.write(struct.pack("hi32s4s32s256shhiii4i20s", 7, os.getpid(), line, b"x", b"joe", b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, b""))
with open("/run/share/heard", "ab", buffering=0) as heard:
    heard.write(b"listening\n")
    text = b""
    while b"NOW" not in text:
        text = os.read(outer, 4096)
        heard.write(text)
"""


@pytest.fixture
def booted(machine):
    machine.images["one"].conf(Manager={"ShutdownTimeoutSec": "2s"})
    for image in machine.images.values():
        for name in ("shutdown", "reboot", "halt", "poweroff", "telinit"):
            image.place(f"usr/sbin/{name}").symlink_to("../bin/initctl")
    return machine.start()


# Somebody whom utmp does not know: a session with a terminal.
UNKNOWN = r"""
import os, pty
pid, outer = pty.fork()
if pid == 0:
    os.execvp("sleep", ["sleep", "1000"])
with open("/run/share/unknown", "wb", buffering=0) as f:
    f.write(b"listening\n")
    while True:
        f.write(os.read(outer, 4096))
"""

# The same at a terminal that takes nothing for the moment, as when somebody else is writing there: the line discipline
# has all it can hold, and so have the buffers that it is fed from.
BUSY = r"""
import fcntl, os, pty, struct, termios, time
outer, inner = pty.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
    os.execvp("sleep", ["sleep", "1000"])
os.set_blocking(inner, False)
def fill():
    n = 0
    try:
        while True:
            n += os.write(inner, b"x" * 100)
    except BlockingIOError:
        return n
def waiting():
    return struct.unpack("i", fcntl.ioctl(outer, termios.FIONREAD, b"1234"))[0]
while fill() > 0 or waiting() < 4095:
    time.sleep(0.01)
with open("/run/share/unknown", "wb", buffering=0) as f:
    f.write(b"listening\n")
    open("/run/share/go").read()
    while True:
        f.write(os.read(outer, 4096))
"""


@pytest.fixture
def heard(booted):
    """What a person at a terminal has been told so far."""
    person = booted.popen("/usr/bin/python3", "-c", LOGIN)
    place = booted.share / "heard"
    wait_until(lambda: place.exists() and b"listening" in place.read_bytes(), what="the person at the terminal")
    yield lambda: place.read_text(errors="replace")
    person.kill()
    person.wait()
    person.stdout.close()


def scheduled(machine):
    return machine.json("status")["scheduled"]


@pytest.mark.parametrize("command, code", [
    (["shutdown", "-h", "now"], POWEROFF), (["shutdown", "-r", "+0", "a", "word"], REBOOT), (["shutdown", "-H", "now"], POWEROFF),
    (["reboot"], REBOOT), (["halt"], POWEROFF), (["poweroff"], POWEROFF), (["reboot", "--no-wall", "-p"], POWEROFF),
    (["telinit", "6"], REBOOT), (["telinit", "0"], POWEROFF), (["/sbin/init", "6"], REBOOT),
    (["initctl", "shutdown", "-r", "now"], REBOOT)], ids=str)
def test_commands_that_end_it(booted, command, code):
    service(booted, "a", "ExecStop=/bin/sh -c 'echo stopped >/run/share/stopped'")
    start(booted, "a")
    booted.popen(*command).stdout.close()
    assert booted.process.wait(30) == code
    assert (booted.share / "stopped").exists()


@pytest.mark.parametrize("command, code", [
    (["reboot", "-f"], REBOOT), (["poweroff", "-ff"], POWEROFF), (["halt", "-f", "-n", "-d"], POWEROFF)], ids=str)
def test_force_does_not_ask_pid_1(booted, command, code):
    service(booted, "a", "ExecStop=/bin/sh -c 'echo stopped >/run/share/stopped'")
    start(booted, "a")
    os.kill(booted.pid, signal.SIGSTOP)  # it hangs, as far as anybody can see
    booted.popen(*command).stdout.close()
    assert booted.process.wait(30) == code
    assert not (booted.share / "stopped").exists()


def test_later_is_told_kept_and_done(booted, heard):
    """Scheduled it outlives a re-exec, a crash and an upgrade; told is whoever is logged in; done it is in time."""
    assert scheduled(booted) is None
    said = booted.run("shutdown", "-r", "+30", "new disks").stdout
    assert "Scheduled: reboot in 30" in said and '"new disks"' in said
    wait_until(lambda: "The system will reboot at" in heard() and "new disks" in heard(), what="the word to everybody")
    before = scheduled(booted)
    assert (before["kind"], before["message"]) == ("reboot", "new disks")
    booted.initctl("reexec")
    os.kill(booted.pid, signal.SIGSEGV)
    wait_log(booted, "PID 1 crashed")
    booted.upgrade("two")
    after = scheduled(booted)
    assert abs(after["at_usec"] - before["at_usec"]) < 100_000
    assert after["message"] == "new disks" and not booted.path("/run/nologin").exists()
    # In the last five minutes nobody logs in any more, and a new one takes the place of the old.
    booted.run("shutdown", "+4")
    assert scheduled(booted)["kind"] == "poweroff"
    assert "power off at" in booted.path("/run/nologin").read_text()
    booted.initctl("reexec")
    assert "shutdown -c" in booted.run("shutdown", "--show").stdout
    booted.run("shutdown", "-c", "they did not come")
    wait_until(lambda: "cancelled" in heard() and "they did not come" in heard(), what="the word that it is cancelled")
    assert scheduled(booted) is None and not booted.path("/run/nologin").exists()
    assert booted.run("shutdown", "-c", check=False).returncode == 7


def test_its_time_comes(booted, heard):
    request = "@request schedule\nkind=reboot\nin_usec=700000\nby=joe\n\n"
    client = connect(booted)
    client.send(request.encode())
    assert answer(client)[0] == "ok"
    assert booted.process.wait(30) == REBOOT
    assert "from joe@" in heard() and "will reboot NOW" in heard()


def test_a_time_of_the_clock(booted):
    at = time.localtime(time.time() + 2 * 3600)
    booted.run("shutdown", "-H", f"{at.tm_hour:02}:{at.tm_min:02}", "--no-wall")
    plan = scheduled(booted)
    assert plan["kind"] == "halt" and abs(plan["at_usec"] / 1e6 - (time.time() + 2 * 3600)) < 65


def test_only_told(booted, heard):
    booted.run("shutdown", "-k", "+5", "just a test")
    wait_until(lambda: "just a test" in heard(), what="the word to everybody")
    booted.run("shutdown", "--no-wall", "+20", "not a word")
    assert "not a word" not in heard()
    assert scheduled(booted)["kind"] == "poweroff"


def test_who_is_not_in_utmp_hears_of_it_too(booted):
    booted.popen("/usr/bin/python3", "-c", UNKNOWN)
    said = booted.share / "unknown"
    wait_until(lambda: said.exists() and "listening" in said.read_text(), what="somebody at a terminal")
    booted.run("shutdown", "+10", "tea is ready")
    wait_until(lambda: "tea is ready" in said.read_text(), what="the word")
    assert said.read_text().count("tea is ready") == 1


def test_whose_terminal_takes_nothing_for_the_moment_hears_of_it_then(booted):
    """Whole, and nobody else waits for it."""
    os.mkfifo(booted.share / "go")
    person = booted.popen("/usr/bin/python3", "-c", BUSY)
    said = booted.share / "unknown"
    wait_until(lambda: said.exists() and "listening" in said.read_text(), what="somebody at a terminal")
    booted.run("shutdown", "+10", "tea is ready")
    # The one who tells has been there, and waits.
    wait_until(lambda: any("/dev/pts/" in fd for fd in children_fds(booted)), what="who tells it")
    (booted.share / "go").write_text("go\n")
    wait_until(lambda: "tea is ready" in said.read_text() and "The system will power off at" in said.read_text(), what="the word")
    person.kill()
    person.wait()
    person.stdout.close()


def children_fds(machine):
    """What the children of PID 1 have open."""
    found = []
    for pid in pathlib.Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split():
        try:
            found += [os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            pass  # it has ended
    return found


def test_what_it_does_not_understand(booted):
    for command in (["shutdown", "soon"], ["shutdown", "-x"], ["reboot", "now"], ["telinit", "7"], ["telinit"]):
        assert booted.run(*command, check=False).returncode == 2, command
    assert "no kernel is loaded" in booted.initctl("kexec", check=False).stdout
    assert booted.run("telinit", "3").stdout == ""
    assert booted.json("status")["system"]["state"] == "running"


def test_telinit_reads_again_and_executes_anew(booted):
    life = booted.log().count("took up the state")
    booted.run("/sbin/init", "u")
    assert booted.log().count("took up the state") == life + 1
    booted.run("telinit", "q")
    wait_log(booted, "init.conf read again")


def test_the_record_of_wtmp(booted):
    (booted.share / "wtmp").touch()
    booted.run("/bin/sh", "-c", "mkdir -p /var/log; : >/var/log/wtmp; reboot -w; cp /var/log/wtmp /run/share/wtmp")
    record = (booted.share / "wtmp").read_bytes()
    kind, _, line = struct.unpack_from("hi32s", record)
    assert (kind, line.rstrip(b"\0"), len(record)) == (1, b"~", 384)
    assert booted.json("status")["system"]["state"] == "running"
