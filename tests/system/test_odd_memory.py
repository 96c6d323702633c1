# SPDX-License-Identifier: MIT
"""A process in whose memory nothing is as it should be stays where it is, and bars nobody: neither the upgrade nor the way
back. Any user can have one."""
import pytest
from machine import wait_until
from outside import assert_thawed, last_word, stragglers
from test_migrate import Holder, lay_out

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("subject, why", [
    ("decoy", "got signal 11 instead of running a system call"),
    # Whoever waited for a page of it would wait for ever: PID 1 with everything frozen, if it is not careful.
    ("lazy", "has no vDSO to run a system call from"),
])
def test_stays_and_bars_nothing(machine, subject, why):
    lay_out(machine)
    for image in machine.images.values():
        image.conf(Upgrade={"AutoCommit": "no"})
    machine.start()
    other = Holder(machine, "fds")
    machine.upgrade("two")
    odd = Holder(machine, subject)  # nobody has seen it in a plan
    back = machine.popen("/usr/bin/initctl", "rollback")
    try:
        wait_until(lambda: back.poll() is not None, 20, f"{machine.report()}\nthe rollback")
    finally:
        if back.poll() is None:  # PID 1 may wait for it
            (machine.cgroup / "tree" / odd.cgroup / "cgroup.kill").write_text("1")
    assert "rolled back" in back.stdout.read() and machine.image() == "one"
    assert why in machine.log(), machine.log()
    assert {comm for _, _, comm in stragglers(machine, odd.pids(), fds=True)} == {"holder"}
    assert stragglers(machine, other.pids(), fds=True) == []
    _, told = machine.upgrade("two")
    assert last_word(told).startswith("not committed yet")
    assert odd.verdict() == "ok" and other.verdict() == "ok", machine.report()
    assert_thawed(machine)
