# SPDX-License-Identifier: MIT
"""A new init that said it could take over and then does not get that far: PID 1 lives, the old init is brought back,
and the upgrade is rolled back with the reason. Nobody notices."""
import pytest
from load_inside import LoadInside
from machine import BUILD, Machine
from outside import Snapshot, last_word
from test_rollback import lay_out, rolled_back, stands_on

pytestmark = pytest.mark.timeout(120)

FAILURES = {
    "segv": "the new init was killed by SIGSEGV while it took over",
    "abort": "the new init was killed by SIGABRT while it took over",
    "smash": "the new init was killed by SIGSEGV while it took over",
    "exit": "the new init exited with code 127 while it took over",
    "hang": "the new init did not take over within 700 ms",
    "spin": "the new init did not take over within 700 ms",
    "bare": "the new init was killed by SIGSEGV while it took over",
    "clutter": "the new init was killed by SIGSEGV while it took over",
    "reboot": "the new init wanted to reboot the system while it took over",
}


@pytest.mark.parametrize("how", FAILURES)
def test_new_init_that_fails(tmp_path, how):
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        lay_out(machine)
        machine.images["one"].conf(services=["first.service", "web.service", "kept.service"],
                                   Upgrade={"ExecTimeoutSec": "700ms"})
        machine.images["two"].copy(BUILD / "tools/badinit", "usr/sbin/init")
        machine.images["two"].write("etc/badinit", f"yes {how}")
        machine.start()
        for name in ("web", "first", "kept"):
            machine.wait_state(name)
        before = Snapshot(machine)
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
