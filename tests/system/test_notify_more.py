# SPDX-License-Identifier: MIT
"""The rest of sd_notify(3): stored descriptors, watchdogs, reloads that tell their end, whose word counts."""
import os
import signal

import pytest

from helpers import answer, connect, outside, request, said, script, service, start, state, stop, wait_log, wait_said
from machine import wait_until
from test_notify import SEND

pytestmark = pytest.mark.timeout(120)

PROLOGUE = SEND + """
import time, signal
def say(text):
    print(text, flush=True)
def names():
    return os.environ.get("LISTEN_FDNAMES", "").split(":") if "LISTEN_FDNAMES" in os.environ else []
def fd_of(name):
    return 3 + names().index(name)
starts = len(open("/run/share/starts").read()) if os.path.exists("/run/share/starts") else 0
open("/run/share/starts", "a").write("x")
"""


@pytest.fixture
def booted(machine):
    os.mkfifo(machine.share / "go")
    return machine.start()


def program(machine, name, text, *lines, sections=""):
    path = script(machine, name, PROLOGUE + text, "/usr/bin/python3")
    service(machine, name, "Type=notify", "TimeoutStartSec=20", *lines, start=path, sections=sections)


def go(machine):
    (machine.share / "go").write_text("x\n")


# Stored descriptors

KEEPER = """
if starts == 0:
    m = os.memfd_create("x"); os.write(m, b"hello"); send("FDSTORE=1\\nFDNAME=memory", [m])
    send("FDSTORE=1\\nFDNAME=again", [m, os.dup(m)])
    r, w = os.pipe(); send("FDSTORE=1", [r]); send("FDSTORE=1\\nFDNAME=writer", [w])
    dead, end = os.pipe(); send("FDSTORE=1\\nFDNAME=dead", [dead])
    other, end2 = os.pipe(); send("FDSTORE=1\\nFDNAME=kept\\nFDPOLL=0", [other])
    gone = os.open("/dev/null", os.O_RDONLY); send("FDSTORE=1\\nFDNAME=gone", [gone]); send("FDSTOREREMOVE=1\\nFDNAME=gone")
    os.close(end); os.close(end2)
    send("FDSTORE=1\\nFDNAME=a:b", [gone])
else:
    say(":".join(names()))
    os.lseek(fd_of("memory"), 0, 0); say(os.read(fd_of("memory"), 9).decode())
    os.write(fd_of("writer"), b"through"); say(os.read(fd_of("stored"), 9).decode())
    assert int(os.environ["LISTEN_PID"]) == os.getpid() and int(os.environ["LISTEN_FDS"]) == len(names())
say("FDSTORE=" + os.environ["FDSTORE"])
send("READY=1")
wait("go")
os.kill(os.getpid(), 9)
"""


def test_stored_descriptors_come_back(booted):
    """After the sockets, by name; none twice; not those that were removed or hung up; over a crash, a re-exec of PID 1
    and a restart."""
    program(booted, "k", KEEPER, "FileDescriptorStoreMax=8", "Restart=always", "RestartSec=10ms",
            sections="[Socket]\nListenStream=@k\nFileDescriptorName=door\n")
    start(booted, "k")
    wait_log(booted, 'k.service: the stored descriptor "dead" has hung up')
    assert "FDNAME= is no name for a descriptor" in booted.log()
    assert said(booted, "k") == "FDSTORE=8\n"
    expected = "door:memory:stored:writer:kept\nhello\nthrough\nFDSTORE=8\n"
    go(booted)
    wait_said(booted, "k", expected)
    booted.initctl("reexec")
    go(booted)
    wait_said(booted, "k", expected * 2)
    booted.wait_state("k")
    start(booted, "k", verb="restart")
    wait_said(booted, "k", expected * 3)
    before = len(os.listdir(f"/proc/{booted.pid}/fd"))
    (booted.share / "starts").unlink()
    stop(booted, "k")
    assert len(os.listdir(f"/proc/{booted.pid}/fd")) <= before - 5, "what is stopped for good keeps nothing"
    start(booted, "k")


COUNTER = """
for i in range(10):
    send("FDSTORE=1\\nFDNAME=n%d" % i, [os.memfd_create(str(i))])
say("has " + ":".join(names()))
send("READY=1")
wait("go")
"""


@pytest.mark.parametrize("most, preserve, after_restart, after_stop", [
    (0, "restart", "", ""), (3, "restart", "n0:n1:n2", ""), (3, "no", "", ""), (3, "yes", "n0:n1:n2", "n0:n1:n2")])
def test_how_many_and_how_long(booted, most, preserve, after_restart, after_stop):
    program(booted, "c", COUNTER, f"FileDescriptorStoreMax={most}", f"FileDescriptorStorePreserve={preserve}")
    start(booted, "c")
    assert f"more than FileDescriptorStoreMax={most}" in booted.log()
    start(booted, "c", verb="restart")
    wait_said(booted, "c", f"has \nhas {after_restart}\n")
    stop(booted, "c")
    start(booted, "c")
    wait_said(booted, "c", f"has \nhas {after_restart}\nhas {after_stop}\n")


def test_a_failed_service_keeps_nothing(booted):
    program(booted, "c", COUNTER + "os._exit(3)\n", "FileDescriptorStoreMax=8")
    start(booted, "c")
    before = len(os.listdir(f"/proc/{booted.pid}/fd"))
    go(booted)
    booted.wait_state("c", "failed")
    wait_until(lambda: len(os.listdir(f"/proc/{booted.pid}/fd")) <= before - 8, what="the end of what it stored")


# Watchdogs

DOG = """
say("%s %s" % (os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID") == str(os.getpid())))
signal.signal(signal.SIGABRT, lambda *_: (say("aborted"), os._exit(1)))
send("READY=1")
if starts == 0:
    FIRST
while True:
    time.sleep(0.05)
    send("WATCHDOG=1")
"""


@pytest.mark.parametrize("first", ["time.sleep(1000)", "send('WATCHDOG=trigger'); time.sleep(1000)"])
def test_watchdog_that_is_not_fed(booted, first):
    program(booted, "d", DOG.replace("FIRST", first), "WatchdogSec=400ms", "Restart=on-watchdog", "RestartSec=10ms")
    start(booted, "d")
    wait_said(booted, "d", "400000 True\naborted\n400000 True\n")
    booted.wait_state("d")
    assert "no WATCHDOG=1 within 400 ms" in booted.log()
    # Fed, it lives on for some more of its periods.
    service(booted, "clock", "Type=oneshot", start="/bin/sleep 1.3")
    start(booted, "clock")
    assert booted.unit("d")["restarts"] == 1, booted.report()


def test_watchdog_of_its_own_making(booted):
    program(booted, "d", DOG.replace("FIRST", "send('WATCHDOG_USEC=200000'); time.sleep(1000)"), "Restart=always",
            "RestartSec=10ms")
    start(booted, "d")
    wait_said(booted, "d", "None False\naborted\nNone False\n")


def stand_still(machine, name):
    """PID 1, for longer than the watchdog waits. When it goes on it finds much to do before what the service has said
    meanwhile: only that it is late itself keeps it from taking the service for dead."""
    clients = [connect(machine) for _ in range(8)]
    machine.initctl("status")  # all of them are let in
    service_pid = outside(machine, machine.unit(name)["main_pid"])
    os.kill(service_pid, signal.SIGSTOP)
    try:
        machine.initctl("status")  # what it has said is heard
        os.kill(machine.pid, signal.SIGSTOP)
        for client in clients:
            client.send(b"@request version\n\n")
        os.kill(service_pid, signal.SIGCONT)
        machine.run("/bin/sleep", "1.3")
    finally:
        os.kill(service_pid, signal.SIGCONT)
        os.kill(machine.pid, signal.SIGCONT)
    assert [answer(client)[0] for client in clients] == ["ok"] * len(clients)


def test_watchdog_counts_no_time_that_was_not_the_services(machine):
    """While it is frozen, by whomever; while PID 1 stands still; over its re-exec; over an upgrade."""
    path = script(machine, "dog", PROLOGUE + DOG.replace("FIRST", "pass"), "/usr/bin/python3")
    for image in machine.images.values():
        image.conf(services=["d.service"])
        image.service("d", f"[Service]\nType=notify\nExecStart={path}\nWatchdogSec=400ms\n")
    booted = machine.start()
    booted.wait_state("d")
    service(booted, "clock", "Type=oneshot", start="/bin/sleep 1.3")
    cgroup = next(path for path in booted.cgroups("d.service") if path.name.isdigit())
    (cgroup / "cgroup.freeze").write_text("1")
    start(booted, "clock")
    (cgroup / "cgroup.freeze").write_text("0")
    assert state(booted, "d") == "running", booted.report()
    stand_still(booted, "d")
    assert state(booted, "d") == "running", booted.report()
    booted.initctl("reexec")
    assert booted.upgrade("two")[0] == 0
    start(booted, "clock")
    assert state(booted, "d") == "running", booted.report()
    # It is armed again after all that.
    os.kill(outside(booted, booted.unit("d")["main_pid"]), signal.SIGSTOP)
    booted.wait_state("d", "failed")
    wait_said(booted, "d", "aborted")


# Reloads

RELOADER = """
def reload(*_):
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    say("reload")
    if os.path.exists("/run/share/stale"):
        send("RELOADING=1\\nMONOTONIC_USEC=1"); send("READY=1"); return
    send("RELOADING=1\\nMONOTONIC_USEC=%d" % now)
    wait("go")
    send("READY=1\\nSTATUS=reloaded")
signal.signal(signal.SIGHUP, reload)
send("READY=1")
while True:
    time.sleep(1000)
"""


def test_notify_reload(booted):
    path = script(booted, "r", PROLOGUE + RELOADER, "/usr/bin/python3")
    service(booted, "r", "Type=notify-reload", "TimeoutStartSec=1s", start=path)
    start(booted, "r")
    client = request(booted, "reload", unit="r.service")
    wait_said(booted, "r", "reload")
    assert state(booted, "r") == "reloading"
    go(booted)
    assert answer(client)[0] == "ok"
    assert booted.unit("r")["status"] == "reloaded"
    (booted.share / "stale").write_text("")
    assert "READY=1 did not come in time" in start(booted, "r", code=1, verb="reload")
    assert state(booted, "r") == "running"


def test_a_reload_by_itself_shows(booted):
    program(booted, "r", "send('READY=1')\nwait('go')\nsend('RELOADING=1')\nwait('go')\nsend('READY=1')\nwait('go')\n")
    start(booted, "r")
    go(booted)
    booted.wait_state("r", "reloading")
    go(booted)
    booted.wait_state("r")


# Whose word counts

# A child stays until PID 1 has read its word: whose it is can only be told of a process that is there.
CHILD = """
def by_child(text):
    if os.fork() == 0:
        send(text)
        end, given = os.pipe()
        send("BARRIER=1", [given])
        os.close(given); os.read(end, 1)
        os._exit(0)
    os.wait()
by_child("STATUS=of a child")
send("STATUS=of the main process\\nNOTIFYACCESS=all")
by_child("READY=1\\nSTATUS=of a child by leave")
wait("go")
"""


def test_notify_access(booted):
    program(booted, "m", CHILD, "NotifyAccess=main")
    start(booted, "m")
    assert booted.unit("m")["status"] == "of a child by leave"
    assert "which NotifyAccess= does not let speak" in booted.log()
    program(booted, "n", "send('STATUS=x\\nREADY=1')\nwait('go')\n", "NotifyAccess=none")
    start(booted, "n")
    service(booted, "o", "NotifyAccess=none", start=script(booted, "o", PROLOGUE + "send('STATUS=x')\nsay('sent')\n"
                                                           "wait('go')\n", "/usr/bin/python3"))
    start(booted, "o")
    wait_said(booted, "o", "sent")
    booted.initctl("status")
    assert not booted.unit("o").get("status")


def test_main_process_by_pidfd(booted):
    program(booted, "p", "child = os.fork()\nif child == 0:\n    wait('go')\n    os._exit(0)\n"
            "send('MAINPIDFD=1', [os.open('/dev/null', 0)])\nsend('MAINPIDFD=1', [os.pidfd_open(1)])\n"
            "send('MAINPIDFD=1\\nREADY=1\\nSTATUS=%d' % child, [os.pidfd_open(child)])\nos.wait()\nwait('go')\n")
    start(booted, "p")
    unit = booted.unit("p")
    assert unit["main_pid"] == int(unit["status"]), booted.report()
    assert "without the one pidfd it is about" in booted.log() and "cannot take MAINPID=1" in booted.log()


def test_bus_error_and_exit_status_are_told(booted):
    """EXIT_STATUS= is what counts where PID 1 cannot see one: of a main process that is a child of another."""
    program(booted, "b", """
if os.fork() == 0:
    if os.fork() == 0:
        send("MAINPID=%d\\nREADY=1\\nBUSERROR=org.example.Error.Late\\nEXIT_STATUS=7" % os.getpid())
        wait("go")
        os._exit(0)
    time.sleep(1000)
time.sleep(1000)
""")
    start(booted, "b")
    unit = booted.unit("b")
    assert (unit["bus_error"], unit["exit_status"]) == ("org.example.Error.Late", 7), unit
    booted.initctl("reexec")
    shown = booted.initctl("status", "b").stdout
    assert "bus error" in shown and "org.example.Error.Late" in shown and "exit status" in shown, shown
    go(booted)
    booted.wait_state("b", "failed")
    assert booted.unit("b")["result"] == "the main process exited with code 7 (org.example.Error.Late)"
    program(booted, "n", "send('EXIT_STATUS=x\\nREADY=1')\nwait('go')\n")
    start(booted, "n")
    assert "EXIT_STATUS= is no number from 0 to 255" in booted.log() and booted.unit("n")["exit_status"] is None


def test_errno_is_told(booted):
    program(booted, "e", "send('ERRNO=2')\nos._exit(5)\n")
    assert "exited with code 5 (No such file or directory)" in start(booted, "e", code=1)
