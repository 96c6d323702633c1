# SPDX-License-Identifier: MIT
"""Many in a row: nothing grows. Not PID 1's descriptors and memory, not the mounts, not the cgroups."""
import os
import shutil

import pytest
from load_inside import LoadInside
from machine import BUILD, Machine, wait_until
from outside import assert_thawed, is_at_rest, last_word, mount_table, stragglers, use
from test_migrate import Holder, lay_out
from test_rollback import WEB

pytestmark = pytest.mark.timeout(120)

# For development only.
TIMES = int(os.environ.get("MOLT_TEST_MANY", "50"))
# What the allocator and the page cache may do; a leak of a page an upgrade would be more.
NOISE_BYTES = 256 * 1024


class Use:
    """What a machine at rest uses."""

    def __init__(self, machine):
        # Old generations are looked at again a second later at the latest.
        wait_until(lambda: machine.json("holders")["holders"] == [], 30, "the release of the old generations")
        wait_until(lambda: machine.log().count("is released") == machine.log().count(": committed"), 30, "released")
        wait_until(lambda: is_at_rest(machine), what="a life with all it keeps")
        self.pid = machine.pid
        self.fds, self.resident = use(machine.pid)
        self.links = sorted(os.readlink(f"/proc/{machine.pid}/fd/{fd}").split(":")[0]
                            for fd in os.listdir(f"/proc/{machine.pid}/fd") if fd.isdigit())
        self.mounts = len(mount_table(machine))
        self.names = sorted(str(path.relative_to(machine.cgroup)) for path in machine.cgroups())
        self.cgroups = len(self.names)

    def assert_no_more_than(self, before):
        # The client's own descriptor goes a turn of the loop after its answer.
        wait_until(lambda: use(self.pid)[0] <= before.fds, 10, f"descriptors: {set(self.links) - set(before.links)} {self.links}")
        assert self.mounts <= before.mounts, "mounts"
        assert self.cgroups <= before.cgroups, f"cgroups: {set(self.names) - set(before.names)}"
        assert self.resident <= before.resident + NOISE_BYTES, f"memory: {before.resident} to {self.resident}"


def serve(machine):
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["web.service", "a.service", "b.service"])
        image.service("web", WEB.replace("ReadyTimeoutSec=500ms\n", ""))
        image.copy(BUILD / "tools/web", "usr/bin/web")
        image.service("a", "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=restart\n")
        image.service("b", "[Service]\nExecStart=/run/share/stream 9000\n")
    # Nothing of it is of an image, not even the C library: it can be kept, and holds no generation.
    shutil.copy2(BUILD / "tools/stream-static", machine.share / "stream")
    machine.start()
    for name in ("web", "a", "b"):
        machine.wait_state(name)


def settled(machine):
    """The old instance of the web server drains for half a second: the next upgrade would wait for it."""
    wait_until(lambda: len(machine.service_pids("web")) == 1, what="the end of the old instance")


def check_growth(machine, step, warm_up=6):
    for _ in range(warm_up):
        step()
    before = Use(machine)
    for _ in range(TIMES):
        step()
    # The last step's own: what a client had, the cgroup of an instance that was replaced.
    wait_until(lambda: use(machine.pid)[0] <= before.fds, what=f"no more than {before.fds} descriptors")
    wait_until(lambda: len(machine.cgroups()) <= before.cgroups, what=f"no more than {before.names} as cgroups")
    Use(machine).assert_no_more_than(before)
    assert_thawed(machine)


def test_upgrades_use_nothing_up(machine):
    serve(machine)
    shutil.copy2(BUILD / "tools/holder-static", machine.share / "holder")
    holder = Holder(machine, "threads")
    images = ["one", "two"]

    def step():
        images.reverse()
        _, told = machine.upgrade(images[0])
        assert last_word(told) == "committed"
        settled(machine)

    with LoadInside(machine, streams=[{"name": "stream", "port": 9000}]) as load:
        check_growth(machine, step)
        assert stragglers(machine) == []
    assert load.stats["failed"] == 0, load.stats
    assert holder.verdict() == "ok"


@pytest.mark.parametrize("why", ["refused", "rolled back"])
def test_failures_use_nothing_up(tmp_path, why):
    with Machine(tmp_path, writable=("one",)) as machine:
        serve_and_fail(machine, why)


def serve_and_fail(machine, why):
    if why == "rolled back":
        lay_out(machine)
        machine.images["two"].copy(BUILD / "tools/badinit", "usr/sbin/init")
    serve(machine)
    # Found by the plan; to be found in the blackout it would have to be opened in between.
    holder = Holder(machine, "writer") if why == "refused" else None

    def step():
        _, told = machine.upgrade("two", check=False)
        assert last_word(told).startswith(why), told
        wait_until(lambda: machine.json("status")["system"]["state"] == "running")

    before_log = machine.log().count(": committed")
    assert before_log == 0
    step()
    before = footprint(machine)
    for _ in range(TIMES // 2):
        step()
    # The last client's own descriptor goes a turn of the loop after its answer.
    wait_until(lambda: use(machine.pid)[0] <= before[0], what=f"no more than {before[0]} descriptors")
    after = footprint(machine)
    assert after[1:3] == before[1:3], (before, after)
    assert after[3] <= before[3] + NOISE_BYTES, (before, after)
    assert_thawed(machine)
    assert holder is None or holder.verdict() == "ok"


def footprint(machine):
    # The generation that was rolled back is released once nothing holds it.
    wait_until(lambda: machine.log().count("is released") == machine.log().count("rolled back:"), 30, "released")
    wait_until(lambda: is_at_rest(machine), what="a life with all it keeps")
    fds, resident = use(machine.pid)
    return fds, len(mount_table(machine)), len(machine.cgroups()), resident
