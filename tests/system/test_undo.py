# SPDX-License-Identifier: MIT
"""Every step of the swap fails once: it is taken back, everything is as before, and the next upgrade works.

The failing calls come from faults.c, preloaded into PID 1.
"""
import os
import subprocess

import pytest
from machine import HERE, Machine
from outside import Snapshot, assert_thawed, last_word, mount_table, stragglers
from test_migrate import Holder, lay_out

pytestmark = pytest.mark.timeout(60)

MACHINE = os.uname().machine
CALLS = {"move_mount": 429, "pivot_root": {"x86_64": 155, "aarch64": 41}[MACHINE], "mount_setattr": 442,
         "pidfd_getfd": 438, "openat2": 437, "pidfd_open": 434}
# One more than the most that a run makes of each, so that the last one meets nothing: see the end of test_step().
STEPS = [(call, n) for call, most in (("move_mount", 14), ("pivot_root", 1), ("mount_setattr", 5), ("pidfd_getfd", 8),
                                      ("openat2", 14)) for n in range(1, most + 1)]


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library,
                    HERE / "faults.c", "-ldl"], check=True)
    return library


def roots_propagation(machine):
    for line in open(f"/proc/{machine.pid}/mountinfo"):
        if line.split()[4] == "/":
            return line.split()[6].split(":")[0]  # "shared:1": the group's number is a new one
    raise AssertionError("no root")


def places(machine):
    table = mount_table(machine)
    return sorted(point for _, point in table.values() if not point.startswith("/run/molt/vault"))


@pytest.mark.parametrize("call,nth", STEPS)
def test_step(tmp_path, faults, call, nth):
    fault = {"LD_PRELOAD": "/run/share/faults.so", "MOLT_FAULT": f"{CALLS[call]}:{nth}"}
    with Machine(tmp_path, environment=fault, shared=True) as machine:
        lay_out(machine)
        (machine.share / "faults.so").write_bytes(faults.read_bytes())
        machine.start()
        holders = [Holder(machine, "fds"), Holder(machine, "jail")]
        before, propagation, mounts = Snapshot(machine), roots_propagation(machine), places(machine)
        code, told = machine.upgrade("two", check=False)
        assert_thawed(machine)
        if code == 3:
            after = Snapshot(machine)
            after.mounts = before.mounts = None  # the vault may have come: places() has the rest
            assert after == before and places(machine) == mounts, machine.report()
            assert roots_propagation(machine) == propagation, machine.report()
            # The old root is where it was, and nothing of the other is left.
            assert not [p for _, p in mount_table(machine).values() if p.startswith("/run/molt/vault/")]
            code, told = machine.upgrade("two", check=False)
        assert (code, last_word(told)) == (0, "committed"), machine.report()
        assert machine.image() == "two" and stragglers(machine, fds=True) == []
        assert [h.verdict() for h in holders] == ["ok", "ok"]
        assert places(machine) == mounts
        assert_thawed(machine)


def test_blackout_that_takes_too_long(machine):
    """Refused with the limit it did not keep, and everybody runs on."""
    lay_out(machine)
    machine.images["one"].conf(Upgrade={"BlackoutTimeoutSec": "1us"})
    machine.start()
    holders = [Holder(machine, "fds"), Holder(machine, "threads")]
    before, mounts = Snapshot(machine), places(machine)
    for _ in range(3):
        code, told = machine.upgrade("two", check=False)
        assert code == 3 and "BlackoutTimeoutSec" in last_word(told), told
        assert_thawed(machine)
    after = Snapshot(machine)
    after.mounts = before.mounts = None
    assert after == before and places(machine) == mounts
    assert [h.verdict() for h in holders] == ["ok", "ok"]


def test_freeze_that_takes_too_long(machine):
    """The same for the freeze. Busy threads need some time for it, if not each time: until it has been too long thrice."""
    lay_out(machine)
    for image in machine.images.values():
        image.conf(Upgrade={"FreezeTimeoutSec": "1us"})
    machine.start()
    holders = [Holder(machine, "threads", cgroup=f"holders/{n}") for n in range(3)]
    refusals = 0
    for _ in range(60):
        code, told = machine.upgrade("one" if machine.image() == "two" else "two", check=False)
        assert_thawed(machine)
        refusals += code == 3
        assert code == 0 or "did not freeze within" in last_word(told), told
        if refusals == 3:
            break
    assert refusals == 3, f"{refusals} of 60\n{machine.report()}"
    assert [h.verdict() for h in holders] == ["ok", "ok", "ok"]
