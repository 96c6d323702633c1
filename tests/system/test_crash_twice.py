# SPDX-License-Identifier: MIT
"""PID 1 crashes again in the life after a crash, before that has a state of its own."""
import os
import signal

import pytest
from helpers import answer, answer_after_crash, request, service, start, wait_log
from machine import Machine, wait_until
from seam import COUNT, CRASH, Seam
from test_crash import no_loop

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def watched(tmp_path):
    with Machine(tmp_path, images=("one",)) as machine:
        machine.images["one"].conf(services=[])
        no_loop(machine)
        machine.seam = Seam(machine)
        yield machine.start()


def test_what_that_life_has_started_is_not_started_again(watched):
    """A main process just started has its ExecStartPost= in the life after: which the next one has to know of."""
    posts = watched.share / "posts"
    service(watched, "p", "ExecStartPost=/bin/sh -c 'echo post >>/run/share/posts'", start="/bin/sleep infinity")

    def begin(mode, nth=0, place=None, again=0):
        posts.write_text("")
        watched.seam.arm(mode, nth, signal.SIGSEGV, place=place, again=again)
        lives = watched.seam.lives
        answer_after_crash(request(watched, "start", unit="p.service"))
        watched.wait_state("p")
        wait_until(lambda: posts.read_text(), what="ExecStartPost=")
        watched.seam.disarm()
        seen = posts.read_text().count("post"), watched.seam.lives - lives, watched.seam.calls()
        start(watched, "p", verb="stop")
        return seen

    begin(COUNT)  # the first time some things are done that are never done again
    _, _, calls = begin(COUNT)
    fork = [n for n, call in enumerate(calls) if call.name == "pipe2"][0]
    watch = next(n for n in range(fork, len(calls)) if calls[n].name == "epoll_ctl")  # the fork is noted
    place, nth = (calls[watch].name, calls[watch].site), calls[:watch + 1].count(calls[watch])
    _, lives, calls = begin(CRASH, nth, place)
    assert lives == 1 and "was started just before the crash" in watched.log(), watched.report()
    # Of the life after: from its last fork on, which is that of ExecStartPost=.
    crash = [n for n, call in enumerate(calls) if (call.name, call.site) == place][nth - 1]
    fork = [n for n, call in enumerate(calls) if n > crash and call.name == "pipe2"][0] - crash
    twice = 0
    for again in range(fork + 3, fork + 40, 4):
        count, lives, _ = begin(CRASH, nth, place, again)
        assert count == 1, f"{again}\n{watched.report()}"
        twice += lives == 2
    assert twice > 5, twice


@pytest.mark.parametrize("again", (2, 3, 9, 27))
def test_it_is_that_program_which_runs(watched, again):
    """Not what is /sbin/init by now, however soon the second one comes."""
    wrong = watched.share / "wrong"
    wrong.write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
    wrong.chmod(0o755)
    assert watched.run("mount", "--bind", "/run/share/wrong", "/sbin/init").returncode == 0
    lives = watched.seam.lives
    watched.seam.arm(CRASH, 1, signal.SIGSEGV, again=again)
    assert answer_after_crash(request(watched, "version"))[0] in ("ok", "failed")
    wait_until(lambda: watched.seam.lives == lives + 2, what="the second life after")
    watched.seam.disarm()
    assert answer(request(watched, "version"))[0] == "ok"
    wait_log(watched, "took up the state")
    assert os.readlink(f"/proc/{watched.pid}/exe") == "/usr/sbin/init"
