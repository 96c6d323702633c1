# SPDX-License-Identifier: MIT
"""The fork race: however fast processes multiply, no upgrade leaves one behind on the old root.

The same test on a molt that does not freeze finds some at once: it can see what it looks for.
"""
import itertools
import os
import subprocess
import time

import pytest
from machine import BUILD, Machine
from outside import assert_thawed, held_still, stragglers

pytestmark = pytest.mark.timeout(240)

# For development only: the whole number takes a minute.
UPGRADES = int(os.environ.get("MOLT_TEST_UPGRADES", "300"))
WITHOUT_FREEZE = 60


def begin_storm(machine):
    """Two families for each core, of each kind: by fork, by vfork and exec, and children that come and go."""
    cores = os.cpu_count()
    (machine.share / "forkstorm").write_bytes((BUILD / "tools/forkstorm").read_bytes())
    (machine.share / "forkstorm").chmod(0o755)
    storm = machine.popen("/run/share/forkstorm", cores, max(1, cores // 2), max(1, cores // 2),
                          stdin=subprocess.PIPE)
    assert storm.stdout.readline() == "ready\n"
    return storm


def end_storm(storm):
    storm.stdin.close()
    words = storm.stdout.read().split()
    storm.wait(30)
    storm.stdout.close()
    assert words[:1] == ["forks"], words
    return int(words[1])


def left_behind(machine):
    with held_still(machine):
        return stragglers(machine)


@pytest.mark.alone
def test_no_fork_evades_an_upgrade(machine, capfd):
    machine.start()
    storm = begin_storm(machine)
    begin, blackouts = time.monotonic(), []
    for number, image in zip(range(UPGRADES), itertools.cycle(("two", "one"))):
        _, events = machine.upgrade(image)
        blackouts += [e["usec"] for e in events if e["event"] == "blackout"]
        assert left_behind(machine) == [], f"after upgrade {number + 1}\n{machine.report()}"
    took = time.monotonic() - begin
    assert_thawed(machine)
    forks = end_storm(storm)
    assert forks > UPGRADES * 10, "that was no storm"
    with capfd.disabled():
        print(f"\n{UPGRADES} upgrades in {took:.1f} s, {forks} forks, 0 tasks left behind; blackout: median "
              f"{sorted(blackouts)[len(blackouts) // 2] / 1000:.1f} ms, longest {max(blackouts) / 1000:.1f} ms")


@pytest.mark.alone
def test_without_the_freeze_some_are_left_behind(tmp_path, capfd):
    with Machine(tmp_path, molt=BUILD / "nofreeze/molt") as machine:
        machine.start()
        storm = begin_storm(machine)
        found, number = [], 0
        while not found and number < WITHOUT_FREEZE:
            machine.upgrade(("two", "one")[number % 2])
            number += 1
            found = left_behind(machine)
        assert found, f"{number} upgrades without a freeze left nobody behind: the test is blind"
        end_storm(storm)
    with capfd.disabled():
        print(f"\nwithout the freeze: {len(found)} references to the old root after {number} upgrades")
