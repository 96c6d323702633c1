# SPDX-License-Identifier: MIT
"""100,000 descriptors: plan and upgrade take a bounded time and memory, whatever they are of and whoever shares them."""
import resource
import time

import pytest
from machine import Machine
from outside import assert_thawed, last_word, use
from test_holders import PLACE, Possessor, of, plan

pytestmark = [pytest.mark.timeout(120), pytest.mark.alone]

TOTAL = 100_000  # VERY_MANY_FDS in tests/tools/possess.c
# Thirty times what it takes on an idle machine, and less than what it would take not to see that a table is shared.
SECONDS = 15
ROOM = 8 << 20


@pytest.fixture
def machine(tmp_path):
    with Machine(tmp_path, writable=("one", "two")) as made:
        for image in made.images.values():
            image.write(f"{PLACE}/data", "x")
            image.conf(Upgrade={"BlackoutTimeoutSec": "20s"})
        yield made.start()


def timed(call, *arguments):
    begin = time.monotonic()
    result = call(*arguments)
    assert time.monotonic() - begin < SECONDS, f"{call} took {time.monotonic() - begin} s"
    return result


def scanned(events):
    return next(e["usec"] for e in events if e["event"] == "phase" and e["name"] == "verify")


@pytest.mark.parametrize("kind", ["very-many-fds", "shared-table"])
def test_bounded(machine, kind):
    _, before = use(machine.pid)
    Possessor(machine, kind)
    document = timed(plan, machine)
    held = [h for h in of(document, "file") if h["path"] == f"{PLACE}/data"]
    told = sum(1 + (h["more"] or 0) for h in held)
    own = min(TOTAL, resource.getrlimit(resource.RLIMIT_NOFILE)[1]) // 2
    if kind == "very-many-fds":
        assert told >= TOTAL // 2 and len(held) <= 8 * (1 + TOTAL // (own * 2 - 10)), (told, len(held))
    else:
        # Those of the first, and the beginning of the others, before it is clear that they are the same.
        assert own - 10 <= told <= own + 20 * 512 + 10, told
    code, events = timed(machine.upgrade, "two")
    assert code == 0 and last_word(events) == "committed"
    left = next(e["left"] for e in events if e["event"] == "blackout")
    print(f"{kind}: {left} of the image looked at within {scanned(events) / 1000} ms")
    if kind == "shared-table":
        assert left <= own + 20 * 512 + 100, left
    _, after = use(machine.pid)
    assert after - before < ROOM, f"PID 1 has grown by {(after - before) >> 10} KiB"


def test_too_many_for_the_blackout_are_refused_by_name(tmp_path):
    """The clock is looked at while they are looked through, not only after."""
    with Machine(tmp_path, writable=("one", "two")) as machine:
        for image in machine.images.values():
            image.write(f"{PLACE}/data", "x")
            image.conf(Upgrade={"BlackoutTimeoutSec": "10ms"})
        machine.start()
        Possessor(machine, "very-many-fds")
        code, events = machine.upgrade("two", check=False)
        assert code == 3 and "too many descriptors to be looked through within BlackoutTimeoutSec=" in last_word(events), last_word(events)
        assert next(e["usec"] for e in events if e["event"] == "blackout") < 1_000_000


def test_too_many_directories_are_refused_in_the_plan(machine):
    """More than can be exchanged: said before, and even where somebody insists nothing is broken."""
    Possessor(machine, "very-many-dirs")
    document = plan(machine, 3)
    assert any("directories below the root are held: more than 20000 no upgrade can exchange" in text
               for text in document["blockers"]), document["blockers"]
    code, events = machine.upgrade("two", "--force", check=False)
    assert code == 3 and "more than 20000 references to the old image are held" in last_word(events), last_word(events)
    assert_thawed(machine)
