# SPDX-License-Identifier: MIT
"""A process that somebody else traces cannot be made to stand still. Any user can have one: it must not keep the
machine from an upgrade, nor from the way back."""
import subprocess

from machine import mount_id, wait_until

TRACED = """
import ctypes, os, signal
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    os.chdir("/usr/lib")
    open("/run/traced", "w").write("ready")
    signal.pause()
while not os.path.exists("/run/traced"):
    pass
assert libc.ptrace(0x4206, child, None, None) == 0  # PTRACE_SEIZE
open("/run/tracing", "w").write(str(child))
signal.pause()
"""
SITTER = "import os, signal; os.chdir('/usr/share'); open('/run/sitting', 'w').write('yes'); signal.pause()"


def cwd_mounts(machine, cgroup):
    procs = (machine.cgroup / "tree" / cgroup / "cgroup.procs").read_text().split()
    return {mount_id(f"/proc/{pid}/cwd") for pid in procs}


def test_traced_process_stays_and_bars_nothing(machine):
    for image in machine.images.values():
        image.conf(services=["a.service"])
        image.service("a", "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=handover\n[Socket]\nListenStream=7\n")
    # On the second image it never gets ready: the way back has to be free as well.
    machine.images["two"].service("a", "[Service]\nType=notify\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=handover\n"
                                       "ReadyTimeoutSec=300ms\n[Socket]\nListenStream=7\n")
    machine.start()
    machine.wait_state("a")
    tracer = machine.popen("/usr/bin/python3", "-c", TRACED, cgroup="tracing", stdout=subprocess.DEVNULL)
    sitter = machine.popen("/usr/bin/python3", "-c", SITTER, cgroup="sitting", stdout=subprocess.DEVNULL)
    wait_until(lambda: machine.path("/run/tracing").exists() and machine.path("/run/sitting").exists(), what="both")
    old = mount_id(f"/proc/{machine.pid}/root")

    code, events = machine.upgrade("two", check=False)
    assert code == 4 and "not ready" in events[-1]["text"], f"{events[-1]}\n{machine.report()}"
    assert mount_id(f"/proc/{machine.pid}/root") == old
    assert cwd_mounts(machine, "sitting") == {old}

    code, events = machine.upgrade("one")
    new = mount_id(f"/proc/{machine.pid}/root")
    assert code == 0 and new != old
    assert cwd_mounts(machine, "sitting") == {new}, machine.report()
    assert old in cwd_mounts(machine, "tracing"), "the traced process was moved all the same?"
    assert "is already traced" in machine.log(), machine.log()
    for process in (tracer, sitter):
        process.kill()
        process.wait(10)
