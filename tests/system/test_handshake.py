# SPDX-License-Identifier: MIT
"""The upgrade handshake over $MOLT_FD: who is asked, whose word counts, and what each word does."""
import os
import signal

import pytest

from helpers import outside, said, start, wait_log, wait_said
from machine import wait_until
from outside import assert_thawed, last_word

pytestmark = pytest.mark.timeout(120)

# Answers as its first argument says, tells in its log what it heard, and executes itself on REEXEC.
VOTER = """#!/usr/bin/python3
import array, os, socket, sys, threading, time
how = sys.argv[1]
s = socket.socket(fileno=int(os.environ["MOLT_FD"]))
os.set_inheritable(s.fileno(), True)
def notify(text):
    n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    n.connect(os.environ["NOTIFY_SOCKET"])
    n.send(text.encode())
def say(text):
    print(text, flush=True)
say("up %d" % os.getpid())
notify("READY=1")
def answer(prepare):
    if how in ("yes", "stuck"):
        s.send(b"PREPARED=1")
    elif how == "twice":
        s.send(b"PREPARED=1")
        s.send(b"REFUSED=on second thoughts, no")
    elif how == "close":
        s.close()
        time.sleep(1000)
    elif how == "die":
        os._exit(0)
    elif how == "noise":
        s.send(b"x" * 65536 + b"\\nPREPARED=1")
        s.send(b"\\0\\xff\\n\\n==PREPARED")
        s.sendmsg([b"hello"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 200))])
        s.send(b"REFUSED=deadline of another\\ndeadline_usec=1")
        s.send(b"PREPARED=1 " + prepare.split()[-1])
    elif how != "silent":
        s.send(b"REFUSED=" + how.encode().decode("unicode_escape").encode("latin-1"))
while True:
    packet = s.recv(4096)
    if not packet:
        say("closed")
        time.sleep(1000)
    say(packet.decode())
    if packet.startswith(b"PREPARE "):
        answer(packet)
    elif packet.startswith(b"REEXEC "):
        if how == "stuck":
            notify("READY=1")  # of the old program: it says nothing of the new one
        elif os.path.exists("/run/share/cannot"):
            s.send(b"REFUSED=no program to execute")
        else:
            os.execv("/usr/bin/python3", ["/usr/bin/python3", "/usr/bin/voter"] + sys.argv[1:])
"""
UNIT = """[Unit]
{unit}
[Service]
Type=notify
ExecStart=/usr/bin/python3 /usr/bin/voter {how}
[Upgrade]
Handshake=yes
Policy={policy}
PrepareTimeoutSec={timeout}
ReadyTimeoutSec=2s
"""


def lay_out(machine, **services):
    """NAME="how" or NAME=("how", "policy", "timeout")."""
    for image in machine.images.values():
        image.conf(services=[f"{name}.service" for name in services])
        image.write("usr/bin/voter", VOTER, 0o755)
        for name, how in services.items():
            how, policy, timeout, *unit = how if isinstance(how, tuple) else (how, "keep", "5s")
            image.service(name, UNIT.format(how=f"'{how}'", policy=policy, timeout=timeout, unit="".join(unit)))
    machine.start()
    for name in services:
        machine.wait_state(name)
    return machine


def heard(machine, name):
    return [line.split(" deadline")[0] for line in said(machine, name).splitlines()]


def refused(machine, text, image="two", *options):
    code, told = machine.upgrade(image, *options, check=False)
    assert code == 3, (told, machine.report())
    assert last_word(told) == f"refused: {text}", last_word(told)
    assert machine.image() == machine.first
    assert not [e for e in told if e.get("event") == "blackout"], told
    assert_thawed(machine)
    return told


def moved(machine, name):
    pid = outside(machine, machine.unit(name)["main_pid"])
    return machine.mount_id(pid, "exe") == machine.mount_id(machine.pid)


def test_all_agree(machine):
    lay_out(machine, a="yes", b="yes")
    plan = machine.initctl("plan", "/run/images/two").stdout
    assert plan.count("is asked first") == 2, plan
    assert heard(machine, "a")[1:] == []  # a plan asks nobody
    assert machine.upgrade("two")[0] == 0
    for name in "ab":
        wait_said(machine, name, "COMMIT")
        assert heard(machine, name)[1:] == ["PREPARE generation=2", "COMMIT generation=2"]


def test_a_refusal_refuses_before_the_freeze(machine):
    lay_out(machine, a="yes", postgres="a backup is running", z="yes")
    refused(machine, "postgres: a backup is running")
    for name in "az":
        wait_said(machine, name, "ABORT generation=2")
        assert heard(machine, name)[1:] == ["PREPARE generation=2", "ABORT generation=2"]
    assert heard(machine, "postgres")[1:] == ["PREPARE generation=2"]
    # It is asked anew each time, and --force goes on in spite of it.
    refused(machine, "postgres: a backup is running")
    assert machine.upgrade("two", "--force")[0] == 0
    assert "upgrade forced in spite of postgres: a backup is running" in machine.log()
    wait_said(machine, "a", "COMMIT generation=2")


def test_reasons_are_bounded_and_fit_for_a_log(machine):
    lay_out(machine, a="\\x1b[31m" + "x" * 700)
    code, told = machine.upgrade("two", check=False)
    assert code == 3
    assert last_word(told) == "refused: a: ?[31m" + "x" * 195, last_word(told)
    assert "\x1b" not in machine.log()


def test_no_answer_is_a_refusal(machine):
    lay_out(machine, a="yes", mute=("silent", "keep", "300ms"))
    refused(machine, "mute: no answer to PREPARE within 300 ms (PrepareTimeoutSec=)")
    wait_said(machine, "a", "ABORT generation=2")
    wait_said(machine, "mute", "ABORT generation=2")
    assert machine.upgrade("two", "--force")[0] == 0
    assert "forced in spite of mute: no answer" in machine.log()
    wait_said(machine, "mute", "COMMIT generation=2")


def test_closing_the_socket_is_no_answer(machine):
    lay_out(machine, a=("close", "keep", "20s"))
    refused(machine, "a: it closed its $MOLT_FD without an answer to PREPARE")
    # From then on it has no say.
    assert "is asked first" not in machine.initctl("plan", "/run/images/two").stdout
    assert machine.upgrade("two")[0] == 0


def test_pid_1_crashes_while_they_are_asked(machine):
    """The upgrade is refused, and who was asked hears that nothing comes of it."""
    lay_out(machine, a="yes", mute=("silent", "keep", "60s"))
    client = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two", cgroup="client")
    for name in ("a", "mute"):
        wait_said(machine, name, "PREPARE generation=2")
    os.kill(machine.pid, signal.SIGSEGV)
    output, _ = client.communicate(timeout=20)
    assert client.returncode == 3, output
    assert output.splitlines()[-1] == "refused: PID 1 crashed, and everything is as it was before", output
    for name in ("a", "mute"):
        wait_said(machine, name, "ABORT generation=2")
        assert heard(machine, name)[1:] == ["PREPARE generation=2", "ABORT generation=2"]
    assert machine.json("status")["system"]["state"] == "running" and machine.image() == machine.first


def test_who_ends_has_no_objection(machine):
    lay_out(machine, a=("die", "keep", "20s"), b="yes")
    assert machine.upgrade("two")[0] == 0


def test_a_late_no_counts_as_long_as_others_are_asked(machine):
    lay_out(machine, a="twice", mute=("silent", "keep", "3s"))
    refused(machine, "a: on second thoughts, no")


def test_noise_is_no_answer(machine):
    lay_out(machine, a="noise")
    before = len(os.listdir(f"/proc/{machine.pid}/fd"))
    assert machine.upgrade("two")[0] == 0
    log = machine.log()
    assert "a.service: a packet to $MOLT_FD is too long: ignored" in log, log
    assert log.count("packet to $MOLT_FD") == 1, "a line for each would fill the log"
    assert len(os.listdir(f"/proc/{machine.pid}/fd")) <= before + 8


FLOOD = """#!/usr/bin/python3
import os, socket
s = socket.socket(fileno=int(os.environ["MOLT_FD"]))
try:
    while True:
        s.send(b"PREPARED=1")
except OSError as e:
    print("stopped", e, flush=True)
import time
time.sleep(1000)
"""


def test_a_flood_loses_its_say(machine):
    for image in machine.images.values():
        image.conf(services=["flood.service", "b.service"])
        image.write("usr/bin/flood", FLOOD, 0o755)
        image.service("flood", "[Service]\nExecStart=/usr/bin/flood\n[Upgrade]\nHandshake=yes\n")
        image.service("b", "[Service]\nExecStart=/bin/sleep 1000\n")
    machine.start()
    wait_said(machine, "flood", "stopped")
    wait_log(machine, "it has no say any more")
    start(machine, "b", verb="restart", timeout=10)
    assert machine.upgrade("two")[0] == 0


STRANGER = """
import array, os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/share/hand")
listener.listen()
c, _ = listener.accept()
_, rights, _, _ = c.recvmsg(1, 64)
fds = array.array("i"); fds.frombytes(rights[0][2])
s = socket.socket(fileno=fds[0])
s.send(b"REFUSED=by a stranger")
print("sent", flush=True)
import time
time.sleep(1000)
"""
GIVER = """#!/usr/bin/python3
import array, os, socket, time
fd = int(os.environ["MOLT_FD"])
s = socket.socket(fileno=fd)
while True:
    packet = s.recv(4096)
    print(packet.decode(), flush=True)
    if packet.startswith(b"PREPARE "):
        c = socket.socket(socket.AF_UNIX)
        c.connect("/run/share/hand")
        c.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        while not os.path.exists("/run/share/go"):
            time.sleep(0.01)
        s.send(b"PREPARED=1")
"""


def test_only_the_services_own_processes_count(machine):
    """Whoever holds the descriptor: a session that was given it cannot refuse for the service."""
    for image in machine.images.values():
        image.conf(services=["a.service"])
        image.write("usr/bin/giver", GIVER, 0o755)
        image.service("a", "[Service]\nExecStart=/usr/bin/giver\n[Upgrade]\nHandshake=yes\nPrepareTimeoutSec=60\n")
    machine.start()
    stranger = machine.popen("/usr/bin/python3", "-c", STRANGER)
    wait_until(lambda: (machine.share / "hand").exists(), what="the stranger's socket")
    client = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two")
    wait_log(machine, "from a process that is not the service's")
    assert stranger.stdout.readline() == "sent\n"
    assert client.poll() is None
    (machine.share / "go").write_text("")
    assert client.wait(30) == 0, client.stdout.read() + machine.report()
    client.stdout.close()
    stranger.stdout.close()


def test_reexec(machine):
    """Told to, it executes itself: same PID, new image, and the same socket for the next time."""
    lay_out(machine, a=("yes", "reexec", "5s"))
    pid = machine.unit("a")["main_pid"]
    assert "re-execs itself when it is told to" in machine.initctl("plan", "/run/images/two").stdout
    for generation, image in ((2, "two"), (3, "one")):
        assert machine.upgrade(image)[0] == 0
        assert machine.unit("a")["main_pid"] == pid and moved(machine, "a"), machine.report()
        wait_until(lambda: heard(machine, "a")[-2:] == [f"REEXEC generation={generation}", f"up {pid}"],
                   what="the end of its exec")
        machine.initctl("reexec")
    assert "COMMIT" not in said(machine, "a"), "who was told REEXEC knows"
    # A new start has a pair of its own.
    start(machine, "a", verb="restart")
    assert machine.upgrade("two")[0] == 0
    assert moved(machine, "a")


def test_reexec_that_cannot_rolls_back(machine):
    lay_out(machine, a=("yes", "reexec", "5s"), b="yes")
    (machine.share / "cannot").write_text("")
    pid = machine.unit("a")["main_pid"]
    code, told = machine.upgrade("two", check=False)
    assert code == 4, (told, machine.report())
    assert "a.service: it was told to re-exec and refused: no program to execute" in last_word(told)
    assert machine.unit("a")["main_pid"] == pid and moved(machine, "a")
    wait_said(machine, "b", "ABORT generation=2")
    (machine.share / "cannot").unlink()
    assert machine.upgrade("two")[0] == 0
    assert machine.unit("a")["main_pid"] == pid and moved(machine, "a")


def test_rolled_back_it_is_told_again(machine):
    """Had it moved already, it executes the old image's program."""
    lay_out(machine, a=("yes", "reexec", "5s"), z=("yes", "restart", "5s", "After=a.service"))
    pid = machine.unit("a")["main_pid"]
    # Breaks z alone: on the new image its ExecStart= is not there.
    directory = machine.path("/run/molt/system/z.service.d")
    directory.mkdir(parents=True)
    (directory / "x.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/sh -c "
                                   "'grep -q two /etc/os-release && exit 7; exec /usr/bin/voter yes'\n")
    machine.initctl("restart", "z")
    code, told = machine.upgrade("two", check=False)
    assert code == 4 and "z.service" in last_word(told), (told, machine.report())
    wait_until(lambda: heard(machine, "a")[-2:] == ["REEXEC generation=1", f"up {pid}"], what="the way back")
    assert "REEXEC generation=2" in heard(machine, "a")
    assert machine.unit("a")["main_pid"] == pid and moved(machine, "a")


def test_a_reexec_that_never_comes_rolls_back(machine):
    """READY=1 alone is a word; that it executed the new program is a fact."""
    lay_out(machine, a=("stuck", "reexec", "5s"))
    pid = machine.unit("a")["main_pid"]
    code, told = machine.upgrade("two", check=False)
    assert code == 4 and "a.service: not ready on the new image within 2000 ms" in last_word(told), told
    assert machine.unit("a")["main_pid"] == pid


def test_a_stopped_service_is_not_asked(machine):
    lay_out(machine, a="no", b="yes")
    os.kill(outside(machine, machine.unit("a")["main_pid"]), signal.SIGKILL)
    machine.wait_state("a", "failed")
    assert machine.upgrade("two")[0] == 0
