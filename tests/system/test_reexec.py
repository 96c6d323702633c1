# SPDX-License-Identifier: MIT
"""`initctl reexec`: PID 1 becomes itself anew and keeps everything: processes, sockets, clients, timers."""
import contextlib
import os
import resource
import signal
import socket

import pytest
from load_inside import LoadInside
from machine import Machine, wait_until
from outside import Snapshot, is_at_rest, mount_table, use
from test_many import serve

TIMES = int(os.environ.get("MOLT_TEST_MANY", "50"))
pytestmark = pytest.mark.timeout(90 + 3 * TIMES)


def lives(machine):
    return machine.log().count("took up the state")


def test_keeps_everything(machine):
    serve(machine)
    before, table = Snapshot(machine), None
    with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False}],
                    streams=[{"name": "stream", "port": 9000}]) as load:
        for number in range(TIMES):
            result = machine.json("reexec")
            assert result["result"] == "ok", result
            assert lives(machine) == number + 1
            if number == 4:
                wait_until(lambda: is_at_rest(machine), what="a life with all it keeps")
                table = use(machine.pid)
        # The last client's own descriptor goes a turn of the loop after its answer.
        wait_until(lambda: use(machine.pid)[0] <= table[0], what=f"no more than {table[0]} descriptors")
        after = use(machine.pid)
    assert load.stats["failed"] == 0, load.stats
    assert Snapshot(machine) == before, machine.report()
    assert after[0] <= table[0] and after[1] <= table[1] + 256 * 1024, (table, after)


def test_services_begin_with_the_limits_of_the_boot(machine):
    """PID 1 raises its own limit of descriptors, and keeps that across an exec: services never get it."""
    for image in machine.images.values():
        image.service("limits", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'ulimit -Sn; ulimit -Hn'\n")
    soft, hard = 333, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with limited((soft, hard)):
        machine.start()
    assert resource.prlimit(machine.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    for number, change in enumerate((lambda: None, lambda: machine.initctl("reexec"), lambda: machine.upgrade("two"),
                                     lambda: machine.initctl("reexec"))):
        change()
        machine.initctl("start", "limits")
        seen = machine.path("/var/log/molt/limits.log").read_text().split()
        assert seen == [str(soft), str(hard)] * (number + 1)


@contextlib.contextmanager
def limited(limit):
    """What is started meanwhile begins with that limit."""
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, own)


def test_waiting_clients_are_answered_by_the_next_life(machine):
    for image in machine.images.values():
        image.conf(services=[])
        image.service("slow", "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                              "ExecStart=/bin/sh -c 'while [ ! -e /run/go ]; do sleep 0.02; done'\n")
    machine.start()
    waiting = machine.popen("/usr/bin/initctl", "start", "slow", cgroup="client")
    machine.wait_state("slow", "starting")
    for _ in range(3):
        machine.initctl("reexec")
    assert waiting.poll() is None
    machine.run("touch", "/run/go")
    output, _ = waiting.communicate(timeout=10)
    assert waiting.returncode == 0, output
    assert machine.unit("slow")["state"] == "exited"


def test_by_signal(machine):
    serve(machine)
    before = Snapshot(machine)
    os.kill(machine.pid, signal.SIGTERM)
    wait_until(lambda: lives(machine) == 1, what="the next life")
    assert Snapshot(machine) == before


def test_signal_in_the_middle_of_an_upgrade(machine):
    """SIGTERM means a re-exec, at any moment, and none of them loses the upgrade or its client."""
    serve(machine)
    for number, image in enumerate(("two", "one") * 4):
        client = machine.popen("/usr/bin/initctl", "upgrade", f"/run/images/{image}", cgroup="client")
        for _ in range(number):
            if not client.stdout.readline():
                break
        os.kill(machine.pid, signal.SIGTERM)
        output, _ = client.communicate(timeout=30)
        assert client.returncode == 0 and output.strip().endswith("committed"), output + machine.report()
        assert machine.image() == image
        wait_until(lambda: len(machine.service_pids("web")) == 1, what="the end of the old instance")


def test_that_cannot_be_done_changes_nothing(tmp_path):
    """An init that is not there any more: PID 1 says so and goes on."""
    with Machine(tmp_path, writable=("one",)) as other:
        serve(other)
        before = Snapshot(other)
        other.run("mv", "/usr/sbin/init", "/usr/sbin/elsewhere")
        result = other.initctl("reexec", check=False)
        assert result.returncode == 1 and "No such file" in result.stdout, result.stdout
        assert Snapshot(other) == before
        other.run("mv", "/usr/sbin/elsewhere", "/usr/sbin/init")
        other.initctl("reexec")
        assert Snapshot(other) == before


def replace_init(machine, text):
    """/sbin/init becomes a script; returns what brings the real one back."""
    machine.run("mv", "/usr/sbin/init", "/usr/sbin/elsewhere")
    (machine.share / "script").write_text(text)
    machine.run("install", "-m", "755", "/run/share/script", "/usr/sbin/init")
    return lambda: machine.run("mv", "/usr/sbin/elsewhere", "/usr/sbin/init")


REFUSALS = {
    "says why": ("#!/bin/sh\necho 'one warning' >&2\necho 'the moon is full' >&2\nexit 3\n",
                 "/sbin/init could not take over (exit code 3): the moon is full"),
    "foreign": ("#!/bin/sh\nexit 0\n", "/sbin/init is not molt: it did not answer --check-state"),
    "killed": ("#!/bin/sh\nkill -SEGV $$\n", "/sbin/init was killed by SIGSEGV when asked whether it could take over"),
    "hangs": ("#!/bin/sh\nexec sleep 1000\n", "/sbin/init did not say within 300 ms whether it could take over"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_new_init_that_cannot_is_not_executed(tmp_path, how):
    """It is asked first, in a child: the client hears why, nothing has changed, and services are answered meanwhile."""
    text, why = REFUSALS[how]
    with Machine(tmp_path, writable=("one",)) as other:
        other.images["one"].write("etc/molt/init.conf.d/check.conf", "[Upgrade]\nCheckTimeoutSec=300ms\n")
        serve(other)
        before = Snapshot(other)
        bring_back = replace_init(other, text)
        result = other.initctl("reexec", check=False)
        assert result.returncode == 1 and why in result.stdout, result.stdout
        assert "the init that runs goes on" in result.stdout and "ask again" in result.stdout, result.stdout
        os.kill(other.pid, signal.SIGTERM)
        wait_until(lambda: other.log().count(f"not re-executed: {why}") == 2, what="the refusal in the log")
        assert how != "says why" or "/sbin/init: one warning" in other.log()
        assert lives(other) == 0 and Snapshot(other) == before, other.report()
        assert "unsupervised" not in other.log() and "brought back" not in other.log()
        bring_back()
        other.initctl("reexec")
        assert lives(other) == 1 and Snapshot(other) == before, other.report()


def test_requests_are_answered_while_it_is_asked(tmp_path):
    with Machine(tmp_path, writable=("one",)) as other:
        serve(other)
        os.mkfifo(other.share / "go")
        replace_init(other, "#!/bin/sh\n[ $1 != --check-state ] || read x </run/share/go\n"
                            "exec /usr/sbin/elsewhere \"$@\"\n")
        clients = [other.popen("/usr/bin/initctl", "reexec", cgroup="client") for _ in range(2)]
        wait_until(lambda: other.run("/bin/sh", "-c", "grep -l check-state /proc/[0-9]*/cmdline", check=False).stdout,
                   what="the question")
        assert other.json("status")["system"]["state"] == "running"
        assert lives(other) == 0
        (other.share / "go").write_text("x\n")
        for client in clients:
            output, _ = client.communicate(timeout=20)
            assert client.returncode == 0, output + other.report()
        assert lives(other) == 1


def test_idle_connections_do_not_pile_up(machine):
    """Clients that connect and ask nothing are given up after a while, and never keep others out for good."""
    machine.start()
    path = f"/proc/{machine.pid}/root/run/molt/control"
    table = mount_table(machine)
    clients = []
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(path)
        clients.append(client)
    machine.initctl("reexec")
    assert machine.json("status")["system"]["state"] == "running"
    for client in clients:
        client.close()
    wait_until(lambda: use(machine.pid)[0] < 20, what="the end of their descriptors")
    assert mount_table(machine) == table
