# SPDX-License-Identifier: MIT
"""Every system call of an upgrade fails, in PID 1 and in its children: the old image with everything as before, or the
new one complete; always thawed, always a reason.

`make test` takes of each place in the program the first and the last call that it makes; `make faults` takes them all
(MOLT_EVERY_CALL=1).
"""
import errno
import os
import threading

import pytest
import trial
from seam import CHILDREN, EXIT, FAIL, HOLD, INIT, errors_of

EVERY = bool(os.environ.get("MOLT_EVERY_CALL"))
pytestmark = pytest.mark.timeout(7200 if EVERY else 600)


def learn(tmp_path, who):
    """The calls of one upgrade that nothing happens to."""
    with trial.Subject(tmp_path) as subject:
        for _ in range(2):  # the first makes the vault
            trial.run(subject, who=who)
        return subject.seam.calls()


def chosen(calls):
    """(place, occurrence from 1, errors): every one, or two of each place."""
    places = {}
    for call in calls:
        places.setdefault((call.name, call.site), []).append(call)
    for place, made in places.items():
        numbers = range(1, len(made) + 1)
        for number in numbers if EVERY else sorted({1, len(made)}):
            yield place, number, errors_of(made[number - 1])


class Trials:
    """One after the other on the same machine, for as long as it can tell something."""

    def __init__(self, tmp_path, label):
        self.tmp_path, self.label = tmp_path, label
        self.subject = None
        self.n = self.n_hit = 0
        self.failures = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.renew()

    def renew(self):
        if self.subject:
            self.subject.machine.stop()
        self.subject = None

    def one(self, name, *arming, **how):
        if not self.subject:
            self.subject = trial.Subject(self.tmp_path)
            self.subject.__enter__()
        self.n += 1
        try:
            hit, code, _ = trial.run(self.subject, *arming, **how)
            self.n_hit += hit
            if self.subject.spent:
                self.renew()
            return code
        except AssertionError as error:
            self.failures.append(f"{name}: {error}\n{self.subject.machine.log()[-1500:]}")
            self.renew()
            return None

    def check(self):
        assert not self.failures, f"{len(self.failures)} of {self.n} {self.label}:\n" + "\n".join(self.failures[:5])
        # The calls of two upgrades are not quite the same, but mostly. Those of children vary by a third from one to
        # the next, by what they find in /proc and how busy the machine is.
        assert self.n_hit > self.n * 0.5, f"only {self.n_hit} of {self.n} came to the call that was meant"


def fail_each(tmp_path, who, only=None):
    calls = learn(tmp_path, who)
    codes = set()
    with Trials(tmp_path, "failing calls") as trials:
        for place, number, errors in chosen(calls):
            for error in errors:
                if only is None or error in only:
                    name = f"call {number} of {place}, {errno.errorcode[error]}"
                    codes.add(trials.one(name, FAIL, number, error, who=who, place=place))
        trials.check()
    return codes


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EIO, errno.EPERM, errno.EBUSY], ids=errno.errorcode.get)
def test_calls_of_init(tmp_path, error):
    codes = fail_each(tmp_path, INIT, {error})
    if error != errno.EBUSY:  # mounts alone can be busy
        assert {0, 3, 4} <= codes, f"all three ends were to come about: {codes}"


def test_whatever_is_to_be_watched(tmp_path):
    """One place in the program adds all that PID 1 waits for, processes that it has just forked among it."""
    calls = [call for call in learn(tmp_path, INIT) if call.name == "epoll_ctl"]
    with Trials(tmp_path, "watches that cannot be made") as trials:
        for place in {(call.name, call.site) for call in calls}:
            for number in range(1, 1 + sum((call.name, call.site) == place for call in calls)):
                trials.one(f"call {number} of {place}", FAIL, number, errno.ENOMEM, who=INIT, place=place)
        trials.check()


def test_calls_of_its_children(tmp_path):
    assert {0, 3} <= fail_each(tmp_path, CHILDREN)


def test_children_that_end(tmp_path):
    """Killed at any of its calls, a child takes nothing with it."""
    calls = learn(tmp_path, CHILDREN)
    with Trials(tmp_path, "children") as trials:
        for place, number, _ in chosen(calls):
            trials.one(f"call {number} of {place}", EXIT, number, who=CHILDREN, place=place)
        trials.check()


PHASES = ("plan", "prepare", "freeze", "verify", "seize", "pivot", "migrate", "thaw", "exec", "services", "commit")


def moment(calls, phase):
    """The number of a call in that phase, told by what is done in one of them alone."""
    at = {}
    for number, call in enumerate(calls, 1):
        at.setdefault(call.name, []).append(number)
    freeze, seize, migrate, exec_ = at["mlockall"][0], at["ptrace"], at["process_vm_readv"], at["execve"][0]
    assert freeze < seize[0] < migrate[0] < exec_ < len(calls)
    return {"plan": freeze // 3, "prepare": freeze - 5, "freeze": freeze + 3, "verify": (freeze + seize[0]) // 2,
            "seize": seize[0], "pivot": (seize[-1] + migrate[0]) // 2, "migrate": migrate[len(migrate) // 2],
            "thaw": migrate[-1] + 8, "exec": exec_, "services": exec_ + (len(calls) - exec_) // 3,
            "commit": len(calls) - 20}[phase]


@pytest.mark.parametrize("phase", PHASES)
def test_processes_that_come_and_go(tmp_path, phase):
    """While PID 1 is held at one of its calls, a process appears and another ends."""
    calls = learn(tmp_path, INIT)
    with trial.Subject(tmp_path) as subject:
        doomed = subject.machine.popen("/bin/sleep", "1000", cgroup="strangers")
        before_image, before_pids, target = subject.image(), subject.main_pids(), subject.other()
        subject.seam.arm(HOLD, moment(calls, phase))
        upgrade = subject.machine.popen("/usr/bin/initctl", "upgrade", f"/run/images/{target}")
        subject.seam.wait_held()
        # It may be frozen already: then it begins, or ends, with the thaw, and so does who starts it.
        newcomers = []
        starter = threading.Thread(target=lambda: newcomers.append(
            subject.machine.popen("/bin/sleep", "1000", cgroup="strangers")))
        starter.start()
        doomed.kill()
        subject.seam.release()
        said, _ = upgrade.communicate(timeout=30)
        subject.seam.disarm()
        assert upgrade.returncode == 0, said
        trial.check_after(subject, 0, said, before_image, before_pids, target)
        doomed.wait(10)
        starter.join(10)
        assert newcomers[0].poll() is None
        newcomers[0].kill()
        newcomers[0].wait(10)


@pytest.mark.parametrize("phase", PHASES)
def test_client_that_is_killed(tmp_path, phase):
    """It goes on without whoever asked for it."""
    calls = learn(tmp_path, INIT)
    with trial.Subject(tmp_path) as subject:
        before_image, before_pids, target = subject.image(), subject.main_pids(), subject.other()
        subject.seam.arm(HOLD, moment(calls, phase))
        upgrade = subject.machine.popen("/usr/bin/initctl", "upgrade", f"/run/images/{target}")
        subject.seam.wait_held()
        for pid in subject.client_pids():
            os.kill(pid, 9)
        subject.seam.release()
        trial.wait_until(lambda: "upgrade: committed" in subject.machine.log(), 30, "the end of the upgrade")
        subject.seam.disarm()
        upgrade.kill()
        upgrade.communicate(timeout=30)
        trial.check_after(subject, 0, "(nobody was there)", before_image, before_pids, target)
