# SPDX-License-Identifier: MIT
"""A task that ran calls of ours and does not answer when it is to be let go, and a cgroup that cannot be thawed: the
upgrade goes on, at once or after RetryTimeoutSec=, and neither is forgotten by PID 1's next life."""
import contextlib
import re

import pytest
from machine import wait_until
from outside import assert_thawed, last_word, stragglers
from seam import STUCK, Seam
from test_migrate import Holder, lay_out, own_pids

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def slow(machine):
    lay_out(machine)
    for image in machine.images.values():
        image.conf(Upgrade={"RetryTimeoutSec": "2s"})
    machine.seam = Seam(machine)
    machine.start()
    return machine


def tid_of(holder):
    return own_pids(holder.pids()[0])[-1]


@pytest.mark.parametrize("subject", ["cwd", "fds", "sleeper", "waiter", "seccomp"])
def test_it_is_itself_again_before_it_answers(slow, subject):
    """Nothing waits for it: it has its own registers, and the next life lets it go when it answers."""
    holder, other = Holder(slow, subject), Holder(slow, "threads", cgroup="other")
    tid = tid_of(holder)
    slow.seam.mute(tid)
    _, told = slow.upgrade("two")
    assert last_word(told) == "committed" and slow.seam.hit, slow.report()
    assert "the new init waits" not in slow.log()
    busy = slow.initctl("upgrade", "/run/images/one", check=False)
    assert busy.returncode != 0 and f"process {tid} (holder) does not answer" in busy.stdout, busy.stdout
    slow.seam.disarm()
    wait_until(lambda: f"task {tid} was left seized by a life before, and is let go" in slow.log(), what="its release")
    assert stragglers(slow) == [], slow.report()
    slow.upgrade("one")
    assert [holder.verdict(), other.verdict()] == ["ok", "ok"], slow.report()
    assert_thawed(slow)


def test_who_has_our_registers_is_waited_for(slow):
    """PID 1's next life would not know what it has to be given back."""
    holder = Holder(slow, "cwd")
    slow.seam.mute(tid_of(holder), deaf=True)
    client = slow.popen("/usr/bin/initctl", "upgrade", "/run/images/two")
    wait_until(lambda: "the new init waits for it" in slow.log(), what="the wait")
    assert (slow.cgroup / "tree/cgroup.freeze").read_text() == "0\n"
    slow.seam.disarm()
    output, _ = client.communicate(timeout=20)
    assert client.returncode == 0 and slow.image() == "two", output
    assert holder.verdict() == "ok", slow.report()
    assert stragglers(slow) == []


def test_who_has_our_registers_for_ever(slow):
    """It is killed at the end, and named; everything else is on the new image, and nothing stands still."""
    holder, other = Holder(slow, "cwd"), Holder(slow, "threads", cgroup="other")
    tid = tid_of(holder)
    slow.seam.mute(tid, deaf=True)
    result = slow.initctl("upgrade", "/run/images/two", check=False)
    assert result.returncode == 0 and slow.image() == "two", f"{result.stdout}\n{slow.report()}"
    assert re.search(rf"the new init waits for it, 2 s at most \(RetryTimeoutSec=\): process {tid} \(holder\)", result.stdout), result.stdout
    assert re.search(rf"process {tid} \(holder\) does not answer: .* It is killed: ", slow.log()), slow.log()
    assert holder.process.wait(10) == 128 + 9 or holder.process.returncode == -9
    slow.seam.disarm()
    assert stragglers(slow) == []
    slow.upgrade("one")
    assert other.verdict() == "ok", slow.report()
    with contextlib.closing(holder.process.stdin), contextlib.closing(holder.process.stdout):
        assert_thawed(slow)


def test_cgroup_that_cannot_be_thawed(slow):
    """The next life goes on trying."""
    holder, bystander = Holder(slow, "cwd"), Holder(slow, "sleeper", place="/run", cgroup="bystander")
    flag = slow.cgroup / "tree/bystander/cgroup.freeze"
    slow.seam.arm(STUCK, nth=flag.stat().st_ino, argument=ord("0"))
    _, told = slow.upgrade("two")
    assert last_word(told) == "committed" and slow.seam.hit
    assert "the new init waits for it, 2 s at most (RetryTimeoutSec=): a cgroup can still not be frozen or thawed" in slow.log()
    assert flag.read_text() == "1\n"
    slow.seam.disarm()
    wait_until(lambda: "the last cgroup is as it was before" in slow.log(), what="the cgroups")
    assert_thawed(slow)
    slow.upgrade("one")
    assert holder.verdict() == "ok"
    bystander.process.stdin.close()
    bystander.process.stdout.close()
    bystander.process.wait(20)
