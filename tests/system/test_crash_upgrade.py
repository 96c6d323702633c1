# SPDX-License-Identifier: MIT
"""PID 1 crashes in the middle of an upgrade, at any of its system calls: the upgrade ends in one of its two ways."""
import os
import signal

import pytest
import trial
from machine import wait_until
from outside import stragglers
from seam import COUNT, CRASH

# How many moments of an upgrade: evenly, over all that there are.
TIMES = int(os.environ.get("MOLT_TEST_CRASHES", "40"))
# PID 1's calls from the exec after a crash on until it has a state of its own, and some more.
LIFE = 1500
pytestmark = pytest.mark.timeout(300 + 5 * TIMES)


def calls_of_an_upgrade(subject):
    trial.run(subject, COUNT)
    trial.run(subject, COUNT)
    return subject.seam.page.count


def no_loop(subject):
    for image in subject.machine.images.values():
        image.write("etc/molt/init.conf.d/crash.conf", "[Manager]\nCrashLoopSec=0\n")


@pytest.mark.parametrize("part", range(2))
def test_any_call(tmp_path, part):
    crash_at_each(tmp_path, range(part, TIMES, 2))


def test_any_call_and_any_of_the_life_after_it(tmp_path):
    crash_at_each(tmp_path, range(0, TIMES, 2), twice=True)


def crash_at_each(tmp_path, moments, twice=False):
    with (subject := make(tmp_path)):
        total = calls_of_an_upgrade(subject)
        before = trial.descriptors(subject)
        codes, told = [], 0
        for n in moments:
            nth = 1 + n * total // TIMES
            again = twice and 1 + n * 61 % LIFE
            try:
                _, code, said = trial.run(subject, CRASH, nth, signal.SIGSEGV, again=again)
            except AssertionError as error:
                raise AssertionError(f"call {nth} of {total}, and {again}: {error} {stragglers(subject.machine, fds=True)}\n"
                                     f"{subject.machine.report()}") from error
            codes.append(code)
            assert code in (0, 1, 3, 4), f"call {nth} of {total}, and {again}: {code} {said}"
            told += "crashed" in said
        assert 0 in codes and 3 in codes and told, codes
        wait_until(lambda: trial.descriptors(subject) <= before + 2, 30, "no descriptors left behind")


# On the new image: the service dies, and the image is found bad.
BAD = """#!/bin/sh
[ -e /run/share/bad ] || exit 0
kill -9 $(initctl status handed.service | sed -n 's/^ *main pid *//p')
while initctl status handed.service | grep -q running; do :; done
exit 1
"""


def test_as_an_instance_has_been_started_beside_the_old(tmp_path):
    """Nothing of the roll before counts: in that the service was started, as it had died."""
    subject = trial.Subject(tmp_path)
    for image in subject.machine.images.values():
        image.write("etc/molt/post-pivot.d/bad", BAD, 0o755)
    no_loop(subject)
    with subject:
        calls_of_an_upgrade(subject)
        calls = subject.seam.calls()
        names = [call.name for call in calls]
        life = len(names) - 1 - names[::-1].index("execve")
        watched = names.index("epoll_ctl", names.index("pipe2", life))  # after the fork
        nth = calls[:watched + 1].count(calls[watched])
        seen = 0
        for n in range(nth - 2, nth + 6):
            (subject.machine.share / "bad").touch()
            code, said = subject.upgrade(subject.other())
            assert code == 4 and "bad" in said, said
            (subject.machine.share / "bad").unlink()
            before = len(subject.machine.log())
            _, code, said = trial.run(subject, CRASH, n, signal.SIGSEGV, place=(calls[watched].name, calls[watched].site))
            assert code == 0, f"{n}: {code} {said}\n{subject.machine.report()}"
            seen += "was started just before the crash" in subject.machine.log()[before:]
        assert seen, subject.machine.report()


def make(tmp_path):
    subject = trial.Subject(tmp_path)
    no_loop(subject)
    return subject
