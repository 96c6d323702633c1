# SPDX-License-Identifier: MIT
"""FUSE mounts: moved like any other, with a daemon that runs on or stands still, that answers everybody, its user alone,
or nobody."""
import os
import subprocess
import time

import pytest
from daemons import FUSE, SERVED, Daemon
from machine import Machine
from outside import assert_thawed, last_word

pytestmark = pytest.mark.timeout(60)

PLACE = "/data"  # only the first image has it


@pytest.fixture
def machine(tmp_path):
    with Machine(tmp_path, writable=("two",)) as made:
        made.images["one"].write("data/.empty", "")
        made.images["one"].write("opt/file", "")
        yield made


def fuse_at(machine, place):
    return [line for line in machine.path("/proc/1/mountinfo").read_text().splitlines()
            if line.split()[4] == place and " fuse.test " in line]


@pytest.mark.parametrize("inside", [False, True], ids=["daemon beyond", "daemon of the tree"])
def test_moved_and_served(machine, inside):
    """Its place is made where it is missing; what is open on it stays so."""
    machine.start()
    daemon = Daemon(machine, FUSE, PLACE, inside=inside)
    reader = machine.popen("sh", "-ec", f"cd {PLACE}; exec 3<hello; echo ready; read line; cat <&3; cat hello", cgroup="reader",
                           stdin=subprocess.PIPE)
    assert reader.stdout.readline() == "ready\n"
    plan = machine.json("plan", "/run/images/two")
    assert [(m["action"], m["fstype"]) for m in plan["mounts"] if m["path"] == PLACE] == [("make", "fuse.test")]
    assert machine.initctl("upgrade", "--no-auto-commit", "/run/images/two").returncode == 0
    assert machine.run("cat", f"{PLACE}/hello").stdout == SERVED
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.run("cat", f"{PLACE}/hello").stdout == SERVED
    for image in ("two", "one"):
        assert machine.upgrade(image)[0] == 0
        assert machine.run("cat", f"{PLACE}/hello").stdout == SERVED
    assert reader.communicate("\n", timeout=10)[0] == SERVED * 2
    daemon.end()


@pytest.mark.parametrize("options,place", [(("hang",), PLACE), (("hang", "user=1000"), PLACE), (("user=1000",), PLACE),
                                           (("hang", "file"), "/opt/file"), (("user=1000", "file"), "/opt/file")],
                         ids=" ".join)
def test_nobody_asks_it(machine, options, place):
    """A server that hangs, or answers only its user, holds up nothing: what its place is is known without it."""
    machine.start()
    daemon = Daemon(machine, FUSE, place, *options)
    begin = time.monotonic()
    plan = machine.json("plan", "/run/images/two", timeout=20)
    assert [m["action"] for m in plan["mounts"] if m["path"] == place] == ["make"]
    for image in ("two", "one"):
        code, told = machine.upgrade(image, timeout=20)
        assert (code, last_word(told)) == (0, "committed")
        assert fuse_at(machine, place)
        assert machine.json("status", timeout=10)["system"]["state"] == "running"
        assert machine.initctl("holders", timeout=20).returncode == 0
    assert time.monotonic() - begin < 20
    assert_thawed(machine)
    assert daemon.end() == 0


ROOTED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0 and libc.mount(b"x", b"/", b"x", 0x44000, None) == 0
os.chdir("/data")
assert libc.syscall({pivot}, b".", b".") == 0 and libc.umount2(b".", 2) == 0, os.strerror(ctypes.get_errno())
print("ready", flush=True)
sys.stdin.readline()
"""


def test_namespace_with_such_a_root(machine):
    """A container whose root is that of a server which hangs has a root of its own: nobody asks the server for that."""
    machine.start()
    daemon = Daemon(machine, FUSE, PLACE)
    container = machine.popen("/usr/bin/python3", "-c", ROOTED.format(pivot=155 if os.uname().machine == "x86_64" else 41),
                              cgroup="container", stdin=subprocess.PIPE)
    line = container.stdout.readline()
    assert line == "ready\n", line + container.stdout.read()
    machine.run("touch", "/run/hang")
    assert [n["action"] for n in machine.json("plan", "/run/images/two", timeout=10)["namespaces"]] == ["leave"]
    for image in ("two", "one"):
        assert machine.upgrade(image, timeout=20)[0] == 0
        assert machine.initctl("holders", timeout=10).returncode == 0
    (machine.cgroup / "tree/container/cgroup.kill").write_text("1")
    container.communicate(timeout=10)
    daemon.end()
