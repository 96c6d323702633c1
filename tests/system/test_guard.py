# SPDX-License-Identifier: MIT
"""A new init that said it could take over and then does not get that far: PID 1 lives, the old init is brought back,
and the upgrade is rolled back with the reason. Nobody notices."""
import os
import pathlib
import signal
import struct
import subprocess
import sys

import pytest
from load_inside import LoadInside
from machine import BUILD, Machine, wait_until
from outside import Snapshot, last_word
from test_rollback import lay_out, molt_without_memory, rolled_back, stands_on  # noqa: F401

pytestmark = pytest.mark.timeout(120)

LIBRARY = f"/usr/lib/{os.uname().machine}-linux-gnu/libinih.so.1"
EXIT_GROUP = {"x86_64": "231", "aarch64": "94"}[os.uname().machine]

FAILURES = {
    "segv": "the new init was killed by SIGSEGV while it took over",
    "late": "the new init was killed by SIGSEGV while it took over",
    "abort": "the new init was killed by SIGABRT while it took over",
    "smash": "the new init was killed by SIGSEGV while it took over",
    "exit": "the new init exited with code 127 while it took over",
    "leave": "the new init exited with code 3 while it took over",
    "hang": "the new init did not take over within 700 ms",
    "spin": "the new init did not take over within 700 ms",
    "bare": "the new init was killed by SIGSEGV while it took over",
    "clutter": "the new init was killed by SIGSEGV while it took over",
    "reboot": "the new init wanted to reboot the system while it took over",
}


def lay_out_bad(machine, how, **upgrade):
    """The second image's init fails like that."""
    lay_out(machine)
    machine.images["one"].conf(services=["first.service", "web.service", "kept.service"], Upgrade=upgrade)
    machine.images["two"].copy(BUILD / "tools/badinit", "usr/sbin/init")
    machine.images["two"].write("etc/badinit", how)


def start(machine):
    machine.start()
    for name in ("web", "first", "kept"):
        machine.wait_state(name)
    return Snapshot(machine)


def guards(machine):
    """The pids of what traces PID 1, as the kernel tells."""
    status = pathlib.Path(f"/proc/{machine.pid}/status").read_text()
    tracer = int(status.split("TracerPid:")[1].split()[0])
    return [tracer] if tracer else []


@pytest.mark.parametrize("how", FAILURES)
def test_new_init_that_fails(tmp_path, how):
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        lay_out_bad(machine, f"yes {how}", ExecTimeoutSec="700ms")
        before = start(machine)
        with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False},
                                       {"name": "kept", "port": 8080, "keep_alive": True}]) as load:
            told = rolled_back(machine, FAILURES[how])
        assert last_word(told) == f"rolled back: {FAILURES[how]}"
        assert load.stats["failed"] == 0, load.stats
        after = Snapshot(machine)
        assert after.services == before.services and after.start == before.start, machine.report()
        stands_on(machine, "web")
        assert machine.mount_id(machine.pid, "exe") == machine.mount_id(machine.pid)
        code, told = machine.upgrade("three")
        assert (code, last_word(told)) == (0, "committed"), machine.report()


def test_library_that_is_gone(tmp_path):
    """It was there when the init was asked; the loader finds out as PID 1."""
    with Machine(tmp_path, images=("one", "two", "three"), writable=("two",)) as machine:
        lay_out_bad(machine, "swap")
        two = machine.images["two"]
        two.copy(BUILD / "molt", "usr/sbin/init.next")
        two.write(LIBRARY, "")
        before = start(machine)
        told = rolled_back(machine, "the new init exited with code 127")
        assert Snapshot(machine).services == before.services, told
        assert machine.upgrade("three")[0] == 0


@pytest.mark.timeout(120, func_only=True)
def test_reason_of_one_that_cannot_take_the_state(tmp_path, molt_without_memory):
    with Machine(tmp_path) as machine:
        lay_out(machine)
        machine.images["two"].copy(molt_without_memory, "usr/sbin/init")
        start(machine)
        rolled_back(machine, "the new init could not take over the state: this is a test")


def test_init_that_knows_of_no_guard(tmp_path):
    """An older version: it is let go when it has got into its loop, and not brought to an end by the deadline."""
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        lay_out_bad(machine, "yes older", ExecTimeoutSec="700ms")
        machine.images["two"].copy(BUILD / "molt", "usr/sbin/init.next")
        start(machine)
        code, told = machine.upgrade("two")
        assert (code, last_word(told)) == (0, "committed")
        assert guards(machine) == [] and machine.image() == "two"
        machine.upgrade("three")


def replace_init(machine, how):
    """On the image that runs, which is writable."""
    machine.run("cp", "/usr/sbin/init", "/usr/sbin/good")
    (machine.share / "badinit").write_bytes((BUILD / "tools/badinit").read_bytes())
    machine.run("cp", "/run/share/badinit", "/usr/sbin/bad")
    machine.run("chmod", "755", "/usr/sbin/bad")
    machine.run("sh", "-c", f"echo {how} > /etc/badinit && mv /usr/sbin/bad /usr/sbin/init")


@pytest.mark.parametrize("how", ["segv", "exit", "hang", "bare"])
def test_reexec_of_an_init_that_fails(tmp_path, how):
    """Its file was replaced by one that does not work: the very program that ran goes on."""
    with Machine(tmp_path, writable=("one",)) as machine:
        lay_out(machine)
        machine.images["one"].conf(services=["first.service", "web.service", "kept.service"],
                                   Upgrade={"ExecTimeoutSec": "700ms"})
        before = start(machine)
        replace_init(machine, f"yes {how}")
        with LoadInside(machine, http=[{"name": "kept", "port": 8080, "keep_alive": True}]) as load:
            for _ in range(2):
                result = machine.initctl("reexec", check=False)
                assert result.returncode == 1, result.stdout
                assert f"{FAILURES[how]}; the one before goes on" in result.stdout, result.stdout
        assert load.stats["failed"] == 0, load.stats
        assert Snapshot(machine) == before, machine.report()
        machine.run("mv", "/usr/sbin/good", "/usr/sbin/init")
        machine.initctl("reexec")
        assert Snapshot(machine) == before, machine.report()


def test_way_back_to_an_init_that_fails(tmp_path):
    """The old image's init has been spoilt meanwhile: the new one ends the rollback on the old root."""
    with Machine(tmp_path, images=("one", "two", "three"), writable=("one",)) as machine:
        lay_out(machine)
        machine.images["two"].conf(services=["first.service", "web.service", "kept.service"],
                                   Upgrade={"AutoCommit": "no"})
        before = start(machine)
        replace_init(machine, "yes segv")
        assert machine.upgrade("two", "--force")[0] == 0
        result = machine.initctl("rollback", check=False)
        assert "rolled back: asked for" in result.stdout, result.stdout + machine.report()
        assert "the init of generation 1 was killed by SIGSEGV" in machine.log()
        after = Snapshot(machine)
        assert machine.image() == "one" and after.root == before.root and after.start == before.start
        for name in ("web", "first"):
            machine.wait_state(name)
            stands_on(machine, name)
        assert machine.upgrade("three")[0] == 0


def stands_still(machine):
    """Whether PID 1 is stopped by its tracer."""
    return bool(guards(machine)) and \
        pathlib.Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[0] == "t"


def broken_program():
    """molt, but for a part of it that the kernel takes for nonsense: it finds out when there is no way back."""
    program = bytearray((BUILD / "molt").read_bytes())
    first, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    last = [at for at in range(first, first + size * count, size) if struct.unpack_from("<I", program, at)[0] == 1][-1]
    struct.pack_into("<Q", program, last + 40, 0)  # p_memsz below p_filesz
    return bytes(program)


@pytest.mark.parametrize("how", ["raw", "swap"])
def test_end_that_cannot_be_averted(tmp_path, how):
    """It ends without libc, or the kernel ends it in the middle of its exec: it is held, and everything else runs on."""
    with Machine(tmp_path, writable=("two",)) as machine:
        lay_out_bad(machine, "swap" if how == "swap" else f"yes {how}")
        (tmp_path / "broken").write_bytes(broken_program())
        (tmp_path / "broken").chmod(0o755)
        machine.images["two"].copy(tmp_path / "broken", "usr/sbin/init.next")
        start(machine)
        with LoadInside(machine, http=[{"name": "kept", "port": 8080, "keep_alive": True}]) as load:
            client = machine.popen("/usr/bin/initctl", "upgrade", "--force", "/run/images/two", cgroup="client")
            # Many times in a row: at a call of its that is watched it stands only for a moment.
            wait_until(lambda: machine.image() == "two" and all(stands_still(machine) for _ in range(100)),
                       what="the end of the new init")
            with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False}]) as more:
                assert machine.run("echo", "alive").stdout == "alive\n"
            assert more.stats["failed"] == 0, more.stats
            assert stands_still(machine)
        client.kill()
        client.wait(10)
        assert load.stats["failed"] == 0, load.stats


def stands_before_its_exit(machine):
    """Whether PID 1 is stopped by its tracer in exit_group(2), as the loader ends that misses a library."""
    state = pathlib.Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "t" and pathlib.Path(f"/proc/{machine.pid}/syscall").read_text().split()[0] == EXIT_GROUP


def test_both_fail(tmp_path):
    """Not even the old init can be brought back: PID 1 stands still, and everything else runs on."""
    with Machine(tmp_path, writable=("one",)) as machine:
        lay_out_bad(machine, "yes segv", ExecTimeoutSec="700ms")
        start(machine)
        machine.run("sh", "-c", f"rm {LIBRARY} && touch {LIBRARY}")
        with LoadInside(machine, http=[{"name": "kept", "port": 8080, "keep_alive": True}]) as load:
            client = machine.popen("/usr/bin/initctl", "upgrade", "--force", "/run/images/two", cgroup="client")
            wait_until(lambda: guards(machine) and stands_before_its_exit(machine), what="the end of both")
            with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False}]) as more:
                assert machine.run("echo", "alive").stdout == "alive\n"
            assert more.stats["failed"] == 0, more.stats
            assert stands_before_its_exit(machine)
        client.kill()
        client.wait(10)
        assert load.stats["failed"] == 0, load.stats


def test_guard_that_is_killed(tmp_path):
    """Nothing happens by that: the new init goes on, as it is."""
    with Machine(tmp_path) as machine:
        lay_out_bad(machine, "yes hang", ExecTimeoutSec="60s")
        start(machine)
        client = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two", cgroup="client")
        wait_until(lambda: guards(machine) and os.readlink(f"/proc/{machine.pid}/exe").endswith("init")
                   and machine.image() == "two", what="the new init")
        os.kill(guards(machine)[0], signal.SIGKILL)
        wait_until(lambda: guards(machine) == [], what="the end of the guard")
        assert machine.process.poll() is None
        assert machine.run("echo", "alive").stdout == "alive\n"
        client.kill()
        client.wait(10)


TRACER = """
import ctypes, sys
print(ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)  # PTRACE_SEIZE
sys.stdin.read()
"""


def test_init_that_is_traced_already(tmp_path):
    """Nobody can guard it; its check has passed, so the upgrade goes on and says so."""
    with Machine(tmp_path) as machine:
        lay_out(machine)
        start(machine)
        tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(machine.pid)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        try:
            assert tracer.stdout.readline() == b"0\n"
            code, told = machine.upgrade("two")
        finally:
            tracer.communicate(timeout=10)
        assert (code, last_word(told)) == (0, "committed")
        said = [e["text"] for e in told if "nobody can watch over the new init" in e.get("text", "")]
        # Why is only known to the kernel: the tracer is none of this PID namespace.
        assert len(said) == 1 and "task 1" in said[0], told
