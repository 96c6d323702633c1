# SPDX-License-Identifier: MIT
"""SystemStorage=yes: what backs a mount runs while everything else is frozen, and is a service like any other."""
import os
import pathlib
import signal

import pytest

from daemons import FUSE, SERVED
from helpers import said, script, start, stop
from machine import wait_until

pytestmark = pytest.mark.timeout(120)

TICKER = """#!/usr/bin/python3
import os, socket, sys, time
os.chdir("/usr/share")
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
if os.fork() == 0:
    time.sleep(1000)
tick = os.open("/run/share/tick", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
s.send(b"READY=1\\nSTATUS=ticking")
while True:
    os.write(tick, b".")
    time.sleep(0.01)
"""
UNIT = """[Service]
Type=notify
ExecStart=/usr/bin/python3 /usr/bin/ticker
TimeoutStopSec=300ms
[Upgrade]
SystemStorage=yes
Policy={policy}
"""


def lay_out(machine, policy="keep"):
    for image in machine.images.values():
        image.conf(services=["disk.service"])
        image.write("usr/bin/ticker", TICKER, 0o755)
        image.service("disk", UNIT.format(policy=policy))
    machine.start()
    return machine.wait_state("disk")


def outside(machine, pid):
    """Its processes are not in the tree, where helpers.outside() looks."""
    for procs in [directory / "cgroup.procs" for directory in cgroup(machine).iterdir() if directory.is_dir()]:
        for host in procs.read_text().split():
            status = pathlib.Path(f"/proc/{host}/status").read_text()
            inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
            if int(inside) == pid:
                return int(host)
    raise AssertionError(f"no process {pid} in {cgroup(machine)}\n{machine.report()}")


def ticks(machine):
    return (machine.share / "tick").stat().st_size


def cgroup(machine):
    return machine.cgroup / "storage" / "disk.service"


def test_it_runs_while_the_tree_is_frozen(machine):
    unit = lay_out(machine)
    assert unit["status"] == "ticking" and unit["tasks"] == 2 and unit["memory_bytes"] > 0
    assert machine.service_pids("disk") == [], "it is in the tree"
    freeze = machine.cgroup / "tree/cgroup.freeze"
    freeze.write_text("1")
    try:
        wait_until(lambda: "frozen 1" in (machine.cgroup / "tree/cgroup.events").read_text())
        before = ticks(machine)
        wait_until(lambda: ticks(machine) > before + 5, what="ticks while everything else stands still")
    finally:
        freeze.write_text("0")


def test_an_upgrade_leaves_it_alone_and_names_it(machine):
    pid = lay_out(machine)["main_pid"]
    plan = machine.json("plan", "/run/images/two")
    mine = [h for h in plan["holders"] if h["unit"] == "disk.service" and h["what"] == "cwd"]
    assert mine and all("SystemStorage=" in h["why"] and h["action"] == "stays" for h in mine), plan["holders"]
    assert machine.upgrade("two")[0] == 0
    before = ticks(machine)
    assert machine.unit("disk")["main_pid"] == pid
    wait_until(lambda: ticks(machine) > before)
    holders = machine.initctl("holders").stdout
    assert "disk.service" in holders and "/usr/share" in holders, holders
    # PID 1's own exec finds it again, and it ends like any other: whole, and without leaving a cgroup.
    start(machine, "disk", verb="restart")
    assert machine.unit("disk")["main_pid"] != pid
    assert len([d for d in cgroup(machine).iterdir() if d.is_dir()]) == 1
    stop(machine, "disk")
    assert [d for d in cgroup(machine).iterdir() if d.is_dir()] == []
    wait_until(lambda: "disk.service" not in machine.initctl("holders").stdout, what="the release of the old image")


def test_restart_moves_it(machine):
    pid = lay_out(machine, "restart")["main_pid"]
    assert machine.upgrade("two")[0] == 0
    unit = machine.wait_state("disk")
    assert unit["main_pid"] != pid
    assert machine.mount_id(outside(machine, unit["main_pid"]), "exe") == machine.mount_id(machine.pid)


def test_its_end_is_seen(machine):
    lay_out(machine)
    os.kill(outside(machine, machine.unit("disk")["main_pid"]), signal.SIGKILL)
    machine.wait_state("disk", "failed")
    assert said(machine, "disk") == ""
    assert [d for d in cgroup(machine).iterdir() if d.is_dir()] == []


def test_power_off_ends_it(machine):
    lay_out(machine)
    machine.popen("/usr/bin/initctl", "poweroff").stdout.close()
    assert machine.process.wait(30) == 128 + signal.SIGINT
    assert "populated 0" in (machine.cgroup / "storage/cgroup.events").read_text()


DISK = """[Service]
ExecStart=/usr/bin/python3 -u /run/share/fuse /data
[Upgrade]
SystemStorage=yes
Policy=keep
"""
READER = """import os
os.chdir("/data")
held = os.open("hello", os.O_RDONLY)
os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
while True:
    for fd in (held, os.open("hello", os.O_RDONLY)):
        assert os.pread(fd, 100, 0) == b"served\\n"
    os.close(fd)
    with open("/run/share/reads", "a") as f:
        f.write(".")
"""


def test_a_file_system_of_a_service(machine):
    """A FUSE server, as the service that it is for: upgraded under a program of the tree that reads from it all the time."""
    (machine.share / "reads").write_text("")
    script(machine, "fuse", FUSE, "/usr/bin/python3")
    script(machine, "reader", READER, "/usr/bin/python3")
    for image in machine.images.values():
        image.conf(services=["disk.service", "reader.service"])
        image.write("data/.empty", "")
        image.service("disk", DISK)
        image.service("reader", "[Unit]\nAfter=disk.service\n[Service]\nExecStartPre=/bin/sh -c 'until [ -e /data/hello ]; do "
                                "sleep 0.02; done'\nExecStart=/usr/bin/python3 /run/share/reader\n")
    machine.start()
    pids = [machine.wait_state(name)["main_pid"] for name in ("disk", "reader")]
    reads = machine.share / "reads"
    for target in ("two", "one"):
        wait_until(lambda: reads.stat().st_size > 0, what="something read")
        code, told = machine.upgrade(target)
        assert code == 0, f"{told}\n{machine.report()}"
        before = reads.stat().st_size
        wait_until(lambda n=before: reads.stat().st_size > n + 5, what="more that is read")
        assert machine.run("cat", "/data/hello").stdout == SERVED
        assert [machine.wait_state(name)["main_pid"] for name in ("disk", "reader")] == pids, machine.report()
    assert "asked" in said(machine, "disk")
