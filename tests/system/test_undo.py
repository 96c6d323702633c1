# SPDX-License-Identifier: MIT
"""A blackout or a freeze that takes too long is taken back: everything is as before, and the next upgrade works.

test_every_call.py has what becomes of the failures.
"""
import os

import pytest
from machine import wait_until
from outside import Snapshot, assert_thawed, last_word, mount_table, stragglers
from seam import EVERYWHERE, HOLD, Seam
from test_migrate import Holder, at_least, lay_out

pytestmark = pytest.mark.timeout(60)


def places(machine):
    table = mount_table(machine)
    return sorted(point for _, point in table.values() if not point.startswith("/run/molt/vault"))


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


def tables(holders):
    """The numbers that each process of theirs has open."""
    return {pid: sorted(os.listdir(f"/proc/{pid}/fd")) for holder in holders for pid in holder.pids()}


def test_blackout_that_ends_in_the_middle_of_the_migration(machine):
    """Whoever is on the new image already goes back, and whoever is in the middle of a call of ours too."""
    lay_out(machine)
    for image in machine.images.values():
        image.conf(Upgrade={"BlackoutTimeoutSec": "4ms"})
    machine.start()
    kinds = ("fds", "jail", "fsthread")
    holders = [Holder(machine, kind, cgroup=f"holders/{kind}-{n}") for n in range(5) for kind in kinds]
    codes, opened = set(), tables(holders)
    for _ in range(40):
        target = "one" if machine.image() == "two" else "two"
        code, told = machine.upgrade(target, check=False)
        codes.add(code)
        assert code in (0, 3) and last_word(told), told
        assert (machine.image() == target) == (code == 0)
        left = stragglers(machine, fds=True)
        assert left == [], f"{left} {last_word(told)}\n{machine.report()}"
        assert tables(holders) == opened, f"{last_word(told)}\n{machine.report()}"
        assert_thawed(machine)
    assert 3 in codes
    assert [h.verdict() for h in holders] == ["ok"] * len(holders)


@pytest.mark.parametrize("nth", [2, 8, 12])
def test_way_back_that_is_taken_back(machine, nth):
    """A rollback whose blackout takes too long is taken back too, whatever it had done, and tried again with more time.
    Whoever is moved then is held for longer than that: nothing depends on how quick the machine is."""
    lay_out(machine)
    machine.images["one"].conf(Upgrade={"AutoCommit": "no"})
    machine.images["two"].conf(Upgrade={"AutoCommit": "no", "BlackoutTimeoutSec": "500ms"})
    seam = Seam(machine)
    machine.start()
    holders = [Holder(machine, kind, cgroup=f"holders/{kind}-{n}") for n in range(5) for kind in ("fds", "jail", "fsthread")]
    mounts, opened = places(machine), tables(holders)
    machine.upgrade("two")
    # Written once for each task that is moved.
    seam.arm(HOLD, nth=nth, place=("process_vm_writev", EVERYWHERE))
    client = machine.popen("/usr/bin/initctl", "rollback")
    seam.wait_held(30)
    wait_until(at_least(600_000), what="the end of the blackout's time")
    seam.disarm()
    seam.release()
    output, _ = client.communicate(timeout=50)
    assert client.returncode == 4 and machine.image() == "one", f"{output}\n{machine.report()}"
    assert "cannot roll back yet: cannot migrate process" in machine.log(), machine.report()
    assert places(machine) == mounts and stragglers(machine) == [] and tables(holders) == opened, machine.report()
    assert_thawed(machine)
    assert [h.verdict() for h in holders] == ["ok"] * len(holders)


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
