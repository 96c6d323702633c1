# SPDX-License-Identifier: MIT
"""PID 1 crashes over a request, at any of its calls from the connection to the answer: whoever asked gets one."""
import os
import pathlib
import signal

import pytest
from helpers import answer, answer_after_crash, connect, request, start
from machine import Machine, wait_until
from seam import COUNT, CRASH, Seam
from test_crash import crash, no_loop
from test_migrate import lay_out

# How many moments of each request: evenly, over all that there are.
TIMES = int(os.environ.get("MOLT_TEST_CRASHES", "40"))
pytestmark = pytest.mark.timeout(120 + TIMES)

REQUESTS = {
    "status": {},
    "restart": {"unit": "s.service"},
    "stop": {"unit": "s.service"},
    "plan": {"path": "/run/images/two"},
    "holders": {},
    "reexec": {},
}


@pytest.fixture
def watched(tmp_path):
    """With a seam at PID 1's calls, and a loop of crashes that is none."""
    with Machine(tmp_path, shared=True) as machine:
        lay_out(machine)
        machine.seam = Seam(machine)
        no_loop(machine)
        for image in machine.images.values():
            image.service("s", "[Service]\nExecStart=/bin/sleep infinity\n")
        machine.start()
        yield machine


def ask(machine, verb, mode, nth=0):
    start(machine, "s")  # besides, the last life has begun then
    machine.seam.arm(mode, nth, signal.SIGSEGV)
    client = request(machine, verb, **REQUESTS[verb])
    client.settimeout(8)  # less than PID 1 waits for a request that does not come
    try:
        return answer_after_crash(client)[0]
    finally:
        machine.seam.disarm()


@pytest.mark.parametrize("verb", REQUESTS)
def test_gets_an_answer(watched, verb):
    assert ask(watched, verb, COUNT) == "ok"
    total = watched.seam.page.count
    answers, hits = [], 0
    for nth in range(1, total + 1, max(1, total // TIMES)):
        try:
            answers.append(ask(watched, verb, CRASH, nth))
        except (AssertionError, TimeoutError, OSError) as error:
            raise AssertionError(f"call {nth} of {total}: {error!r}\n{watched.report()}") from error
        hits += watched.seam.hit
    assert set(answers) <= {"ok", "failed", "refused", "busy"} and "ok" in answers, answers
    assert hits > len(answers) // 2, (hits, len(answers))
    assert ask(watched, verb, COUNT) == "ok", watched.report()


def ask_in_the_place_of_another(machine, nth=0, again=0):
    """Of a client that has gone and that the state still has: both happen in one turn of PID 1's loop."""
    with connect(machine) as first:
        start(machine, "s")
        machine.seam.arm(CRASH if nth else COUNT, nth, signal.SIGSEGV, again=again)
        os.kill(machine.pid, signal.SIGSTOP)
    client = request(machine, "restart", unit="s.service")
    client.settimeout(8)
    os.kill(machine.pid, signal.SIGCONT)
    try:
        return answer_after_crash(client)[0]
    finally:
        machine.seam.disarm()


def test_two_crashes(watched):
    """The second at any call of the life after the first: what that one found is not lost with it."""
    assert ask_in_the_place_of_another(watched) == "ok"
    total = watched.seam.page.count
    answers, twice = [], 0
    for nth in range(2, total + 1, max(1, total // 10)):
        ask_in_the_place_of_another(watched, nth)
        life = watched.seam.page.count - nth
        if not watched.seam.hit:
            continue
        for again in range(1, life, max(1, life * 10 // TIMES)):
            lives = watched.seam.lives
            try:
                answers.append(ask_in_the_place_of_another(watched, nth, again))
            except (AssertionError, TimeoutError, OSError) as error:
                raise AssertionError(f"call {nth} of {total}, and {again} of {life}: {error!r}\n{watched.report()}") from error
            twice += watched.seam.lives >= lives + 2
    assert set(answers) <= {"ok", "failed"}, answers
    assert twice > len(answers) // 2, (twice, len(answers))


def test_what_a_crash_frees_is_a_number_like_any_other(watched):
    """A child that hands a descriptor on under a number of its own: it may have that number already."""
    third = pathlib.Path(f"/proc/{watched.pid}/fd/3")
    for _ in range(5):
        crash(watched)
        first, second = connect(watched), connect(watched)
        assert answer(request(watched, "version"))[0] == "ok"  # the two have been let in
        freed = os.readlink(third).startswith("socket:")
        first.close()
        if freed:
            break
    assert freed, "this is about the lowest of the numbers"
    wait_until(lambda: not os.path.lexists(third), what="the end of the first")
    second.send(b"@request plan\npath=/run/images/two\n\n")
    assert answer(second)[0] == "ok", watched.report()
