# SPDX-License-Identifier: MIT
"""PID 1 crashes and goes on: nothing of what it supervises notices."""
import os
import resource
import signal
import time

import pytest
from helpers import FOREVER, answer, answer_after_crash, connect, cpu_usec, outside, request, script, wait_log
from load_inside import LoadInside
from machine import wait_until
from outside import Snapshot, is_at_rest, use
from test_many import serve

pytestmark = pytest.mark.timeout(120)

# 1000 of them: make crashes
TIMES = int(os.environ.get("MOLT_TEST_CRASHES", "100"))
SIGNALS = [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL]


def crashes(machine):
    """How often PID 1 says that it has crashed."""
    result, records = answer(request(machine, "version"))
    assert result == "ok"
    fields = dict(line.split("=", 1) for line in records[0].split("\n")[1:] if "=" in line)
    return int(fields["crashes"])


def crash(machine, number=signal.SIGSEGV):
    """One crash, and the next life answers."""
    before = crashes(machine)
    os.kill(machine.pid, number)
    wait_until(lambda: crashes(machine) > before, what="the next life")


def no_loop(machine):
    for image in machine.images.values():
        image.write("etc/molt/init.conf.d/crash.conf", "[Manager]\nCrashLoopSec=0\n")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_each_signal(machine, number):
    serve(machine)
    before = Snapshot(machine)
    crash(machine, number)
    assert Snapshot(machine) == before, machine.report()
    assert f"PID 1 crashed: {number.name}" in machine.log()


def descriptors(machine):
    return len(os.listdir(f"/proc/{machine.pid}/fd"))


LISTENER = """[Socket]
ListenStream=/run/queue.sock
[Service]
Type=notify
ExecStart=/run/share/stored.py
Restart=on-failure
RestartSec=50ms
FileDescriptorStoreMax=4
"""
# Puts a pipe's end into the store at its first start, and tells at each what it was given.
STORED = """import array, os, socket, time
names = os.environ.get("LISTEN_FDNAMES", "")
with open("/run/given", "a") as f:
    f.write(names + "\\n")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
if "kept" not in names:
    ends = os.pipe()
    os.write(ends[1], b"kept")
    notify.sendmsg([b"FDSTORE=1\\nFDNAME=kept\\nFDPOLL=0"],
                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ends[0]]))])
else:
    fd = 3 + names.split(":").index("kept")
    data = os.read(fd, 4)
    with open("/run/given", "a") as f:
        f.write("read " + data.decode() + "\\n")
notify.send(b"READY=1")
time.sleep(1000)
"""


def test_sockets_and_stored_descriptors(machine):
    no_loop(machine)
    machine.images["one"].conf(services=["stored.service"])
    machine.images["one"].service("stored", LISTENER)
    script(machine, "stored.py", STORED, "/usr/bin/python3")
    machine.start()
    before = machine.wait_state("stored")
    table = descriptors(machine)
    for number in SIGNALS * 2:
        crash(machine, number)
    assert machine.unit("stored")["main_pid"] == before["main_pid"]
    wait_until(lambda: descriptors(machine) <= table + 1, what=f"no more than {table} descriptors")
    os.kill(outside(machine, before["main_pid"]), signal.SIGKILL)
    wait_until(lambda: "read kept" in machine.path("/run/given").read_text(), what="what was stored")
    assert machine.wait_state("stored")["restarts"] == 1
    # The socket is still the one that was bound first: whoever connects is queued.
    machine.run("/usr/bin/python3", "-c", "import socket; socket.socket(socket.AF_UNIX).connect('/run/queue.sock')")


def test_backoff_and_counters(machine):
    """Timers go on where they were: a service in its backoff neither starts at once nor never."""
    no_loop(machine)
    machine.images["one"].conf(services=["flaky.service"])
    machine.images["one"].service("flaky", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=100ms\n")
    machine.start()
    wait_until(lambda: machine.unit("flaky")["restarts"] >= 2, what="two restarts")
    was = machine.unit("flaky")["restarts"]
    for _ in range(10):
        crash(machine)
    assert machine.unit("flaky")["restarts"] >= was
    wait_until(lambda: machine.unit("flaky")["restarts"] > was, 30, "one more restart")
    # It doubles: in that time no more than these could be.
    assert machine.unit("flaky")["restarts"] <= was + 4


def test_waiting_client_is_answered(machine):
    no_loop(machine)
    for image in machine.images.values():
        image.conf(services=[])
        image.service("slow", "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                              "ExecStart=/bin/sh -c 'while [ ! -e /run/go ]; do sleep 0.02; done'\n")
    machine.start()
    waiting = machine.popen("/usr/bin/initctl", "start", "slow", cgroup="client")
    machine.wait_state("slow", "starting")
    for number in SIGNALS:
        crash(machine, number)
    assert waiting.poll() is None
    machine.run("touch", "/run/go")
    output, _ = waiting.communicate(timeout=10)
    assert waiting.returncode == 0, output
    assert machine.unit("slow")["state"] == "exited"


def crash_at_once(machine):
    """Two signals: the second one does not wait for the end of the turn."""
    os.kill(machine.pid, signal.SIGSEGV)
    os.kill(machine.pid, signal.SIGBUS)


def test_while_services_start_and_stop(machine):
    """Crashes at any moment of it: every service ends up as it was asked to be, once, and its exit codes are known."""
    no_loop(machine)
    names = [f"s{n}" for n in range(6)]
    machine.images["one"].conf(services=[])
    for name in names:
        machine.images["one"].service(name, f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStartPre=/bin/sh -c 'echo pre'\n"
                                            f"ExecStart=/bin/sh -c 'echo main; exit 0'\nExecStop=/bin/sh -c 'echo stop'\n")
        machine.images["one"].service(name + "d", f"[Service]\nExecStartPre=/bin/true\nExecStart={FOREVER}\n")
    machine.start()
    failed = 0
    for turn in range(12):
        verb = "stop" if turn % 2 else "start"
        clients = [request(machine, verb, unit=name) for base in names for name in (base, base + "d")]
        before = len(machine.log())
        crash_at_once(machine)
        for client in clients:
            result, _ = answer_after_crash(client)
            assert result in ("ok", "failed"), machine.report()
            failed += result == "failed"
        wait_until(lambda: "PID 1 crashed" in machine.log()[before:], what="the crash")
        for name in (n for base in names for n in (base, base + "d")):
            if failed:
                machine.initctl(verb, name, check=False)
            if verb == "start":
                machine.wait_state(name, "running" if name.endswith("d") else "exited")
                assert len(machine.service_pids(name)) == (1 if name.endswith("d") else 0), machine.report()
            else:
                machine.wait_state(name, "inactive")
                wait_until(lambda: not machine.service_pids(name), what="its end")
    # What PID 1 has taken since it last wrote its state down is answered so: some milliseconds of twelve bursts.
    assert failed < 72, machine.report()


def test_crash_loop_ends_in_a_minimal_life(machine):
    """Three in ten seconds: services run on, what connects queues, a shell on the console; then the whole init again."""
    serve_and_rescue(machine)
    before = Snapshot(machine)
    for _ in range(2):
        crash(machine)
    os.kill(machine.pid, signal.SIGSEGV)
    wait_until((machine.share / "shell").exists, what="the shell")
    assert "nothing is done but to reap" in machine.log()
    assert machine.service_pids("web")
    # Children that nobody waits for are buried, and a crash in here is survived.
    os.kill(machine.pid, signal.SIGSEGV)
    machine.run("/bin/sh", "-c", "sleep 0.05 & exit 0")
    wait_until(lambda: not zombies(machine), what="no zombies")
    # Who exits at once is taken for a console that is not there.
    time_in_shell(machine)
    wait_until(lambda: crashes_or_none(machine) == 3, 20, "the whole init")
    assert Snapshot(machine) == before, machine.report()


def test_minimal_life_is_left_by_sigterm(machine):
    serve_and_rescue(machine)
    before = Snapshot(machine)
    for number in range(3):
        os.kill(machine.pid, signal.SIGSEGV)
        wait_until(lambda: crashes_or_none(machine) == number + 1 or "nothing is done" in machine.log(), what="it")
    wait_until(lambda: "nothing is done but to reap" in machine.log(), what="the minimal life")
    os.kill(machine.pid, signal.SIGTERM)
    wait_until(lambda: crashes_or_none(machine) == 3, 20, "the whole init")
    assert Snapshot(machine) == before, machine.report()


def serve_and_rescue(machine):
    for image in machine.images.values():
        image.write("usr/sbin/rescue", "#!/bin/sh\necho up >/run/share/shell\nread x </run/share/go\n", 0o755)
        image.write("etc/molt/init.conf.d/rescue.conf", "[Boot]\nRescueShell=/usr/sbin/rescue\nConsole=/run/share/console\n")
    (machine.share / "console").write_text("")
    os.mkfifo(machine.share / "go")
    serve(machine)


def time_in_shell(machine):
    since = (machine.share / "shell").stat().st_mtime
    wait_until(lambda: time.time() > since + 1.2, what="a second in the shell")
    (machine.share / "go").write_text("exit\n")


def crashes_or_none(machine):
    try:
        return crashes(machine)
    except (OSError, AssertionError):
        return None


def zombies(machine):
    found = []
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if fields and fields[0] == "Z" and int(fields[1]) == machine.pid:
            found.append(pid)
    return found


def test_no_descriptor_left_for_a_client(machine):
    """PID 1 waits for one instead of spinning, and lets the client in then."""
    machine.start()
    own = descriptors(machine)
    limits = resource.prlimit(machine.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(machine.pid, resource.RLIMIT_NOFILE, (own + 1, limits[1]))
    first, second = connect(machine), connect(machine)
    second.send(b"@request version\n\n")
    wait_log(machine, "cannot let in a client")
    spent, since = cpu_usec(machine.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1, what="a second")
    assert cpu_usec(machine.pid) - spent < 200_000, "PID 1 is busy with nothing"
    first.close()
    assert answer(second)[0] == "ok"
    resource.prlimit(machine.pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.alone
@pytest.mark.timeout(300 + 3 * TIMES)
def test_many_in_a_row(machine):
    """Under load, alternating between all signals, some of them in the middle of a turn: nothing is lost and nothing grows."""
    no_loop(machine)
    serve(machine)
    before = Snapshot(machine)
    with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False}],
                    streams=[{"name": "stream", "port": 9000}]) as load:
        for number in range(10):
            crash(machine)
        wait_until(lambda: is_at_rest(machine), what="a life with all it keeps")
        table = use(machine.pid)
        for number in range(TIMES):
            crash(machine, SIGNALS[number % len(SIGNALS)])
            if number % 10 == 0:
                before_pair = crashes(machine)
                crash_at_once(machine)
                wait_until(lambda: (crashes_or_none(machine) or 0) > before_pair, what="the next life")
        wait_until(lambda: use(machine.pid)[0] <= table[0], what=f"no more than {table[0]} descriptors")
        after = use(machine.pid)
    assert load.stats["failed"] == 0, load.stats
    assert Snapshot(machine) == before, machine.report()
    assert after[1] <= table[1] + 512 * 1024, (table, after)
    assert crashes(machine) >= TIMES
