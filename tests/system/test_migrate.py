# SPDX-License-Identifier: MIT
"""What stands below the image's root, or holds a directory of it open: on the new image afterwards, and none disturbed.

Each subject is a program that checks itself (tests/tools/holder/); the test looks from outside as well.
"""
import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from machine import BUILD, wait_until
from outside import assert_thawed, events, last_word, stragglers

pytestmark = pytest.mark.timeout(60)

PLACE = "/opt/place"
SUBJECTS = ["cwd", "fds", "fsthread", "filesthread", "sleeper", "waiter", "nobody", "seccomp", "stopped", "vfork",
            "threads", "jail", "leaderless"]


def lay_out(machine):
    for image in machine.images.values():
        for n in range(20):
            image.write(f"{PLACE}/file-{n}", f"of image {image.version}\n")
        image.write("opt/shut/file", "")
        (image.directory / "opt/shut").chmod(0o700)


def own_pids(pid):
    """What a process is called in each pid namespace, from ours inwards."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status") as status:
        return [int(n) for n in next(line for line in status if line.startswith("NSpid")).split()[1:]]
    return []


class Holder:
    """A running subject."""

    def __init__(self, machine, subject, *arguments, place=PLACE, cgroup=None):
        self.machine = machine
        self.cgroup = cgroup or f"holders/{subject}"
        # From /run: its program must not be what holds the old image.
        if not (machine.share / "holder").exists():
            shutil.copy2(BUILD / "tools/holder", machine.share / "holder")
        self.process = machine.popen("/run/share/holder", subject, place, *arguments, cgroup=self.cgroup,
                                     stdin=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line == "ready\n", line + self.process.stdout.read()

    def pids(self):
        """Its host pids: of what runs in the machine's pid namespace, so without the nsenter that waits for it."""
        procs = self.machine.cgroup / "tree" / self.cgroup / "cgroup.procs"
        return [int(pid) for pid in procs.read_text().split() if len(own_pids(pid)) > 1]

    def verdict(self):
        self.process.stdin.close()
        with contextlib.closing(self.process.stdout) as output:
            text = output.read()
        self.process.wait(20)
        return text.strip() or f"no word, exit {self.process.returncode}"


def at_least(usec):
    begin = time.monotonic()
    return lambda: time.monotonic() - begin >= usec / 1e6


@pytest.mark.parametrize("subject", SUBJECTS)
def test_moves_along_undisturbed(machine, subject):
    lay_out(machine)
    machine.start()
    holder = Holder(machine, subject)
    for number, image in enumerate(("two", "one", "two")):
        code, told = machine.upgrade(image)
        assert last_word(told) == "committed"
        pids = holder.pids()
        assert pids, "it has died\n" + machine.report()
        assert stragglers(machine, fds=True) == [], f"upgrade {number + 1}\n{machine.report()}"
        for pid in pids if subject != "fds" else ():
            with contextlib.suppress(FileNotFoundError):
                text = open(f"/proc/{pid}/root{os.readlink(f'/proc/{pid}/cwd')}/file-0").read()
                assert subject in ("fsthread", "vfork") or text == f"of image {image}\n"
    assert holder.verdict() == "ok", machine.report()
    assert_thawed(machine)


def test_all_of_them_at_once(machine):
    lay_out(machine)
    machine.start()
    # Not "waiter": a blackout that has to be tried again because of a vfork(2) lets some go that were frozen and not held, and
    # the kernel's freezer ends epoll_wait(2) with EINTR, as SIGSTOP and SIGCONT do (signal(7)).
    holders = {subject: Holder(machine, subject) for subject in SUBJECTS if subject != "waiter"}
    for image in ("two", "one"):
        _, told = machine.upgrade(image)
        assert last_word(told) == "committed"
        assert stragglers(machine, fds=True) == [], machine.report()
    verdicts = {subject: holder.verdict() for subject, holder in holders.items()}
    assert set(verdicts.values()) == {"ok"}, f"{verdicts}\n{machine.report()}"
    assert_thawed(machine)


def test_long_vfork(machine):
    """A parent in vfork(2) cannot be moved before its child goes on: the upgrade waits for a moment without one."""
    lay_out(machine)
    machine.start()
    holder = Holder(machine, "vfork", "150")
    for image in ("two", "one"):
        _, told = machine.upgrade(image)
        assert last_word(told) == "committed"
        assert stragglers(machine) == [], machine.report()
    assert holder.verdict() == "ok", machine.report()


def test_nested_cgroup(machine):
    """A process in a cgroup below its service's, as a container manager or a user session makes them."""
    lay_out(machine)
    machine.start()
    outer = Holder(machine, "cwd", cgroup="nest")
    inner = Holder(machine, "cwd", cgroup="nest/a/b")
    machine.upgrade("two")
    assert stragglers(machine) == [], machine.report()
    assert [outer.verdict(), inner.verdict()] == ["ok", "ok"]
    assert_thawed(machine)


def test_process_directly_in_the_tree(machine):
    """Nobody is put there by molt; root can."""
    lay_out(machine)
    machine.start()
    holder = Holder(machine, "cwd", cgroup=".")
    machine.upgrade("two")
    assert stragglers(machine) == [], machine.report()
    assert holder.verdict() == "ok"


@pytest.mark.parametrize("subject", ["cwd", "fds"])
def test_paused_cgroup_stays_paused(machine, subject):
    """Somebody else's freeze (a paused container) is not ours to end, and no reason to fail."""
    lay_out(machine)
    machine.start()
    holder = Holder(machine, subject, cgroup="paused/one")
    bystander = Holder(machine, "sleeper", place="/run", cgroup="paused/two")
    paused = [machine.cgroup / "tree/paused" / name for name in ("one", "two")]
    for directory in paused:
        (directory / "cgroup.freeze").write_text("1")
        wait_until(lambda: events(directory)["frozen"], what="paused")
    _, told = machine.upgrade("two")
    assert last_word(told) == "committed"
    for directory in paused:
        assert events(directory)["frozen"] == 1, f"{directory} was thawed\n{machine.report()}"
    assert stragglers(machine, fds=True) == [], machine.report()
    for directory in paused:
        (directory / "cgroup.freeze").write_text("0")
    assert holder.verdict() == "ok"
    bystander.process.stdin.close()
    bystander.process.stdout.close()
    bystander.process.wait(20)


@pytest.mark.parametrize("subject,place", [("shutout", "/opt/shut"), ("jailnobody", PLACE)])
def test_who_may_not_go_there_stays_and_is_named(machine, subject, place):
    """chdir(2) and chroot(2) ask for permissions that a process may have given up since. No reason to refuse."""
    lay_out(machine)
    machine.start()
    holder = Holder(machine, subject, place=place)
    pid = holder.pids()[0]
    _, told = machine.upgrade("two")
    assert last_word(told) == "committed"
    listed = machine.json("holders")["holders"]
    assert {h["pid"] for h in listed} == {own_pids(pid)[-1]}, f"{listed}\n{machine.report()}"
    assert holder.verdict() == "ok"
    wait_until(lambda: "generation 1 is released" in machine.log(), 15, "the release of generation 1")
    assert_thawed(machine)


def test_directory_missing_in_the_new_image(machine):
    """It stays where it was, is listed with advice, and moves on with a later upgrade to an image that has it."""
    lay_out(machine)
    machine.images["one"].write("opt/only-here/file", "")
    machine.start()
    holder = Holder(machine, "cwd", place="/opt/only-here")
    _, told = machine.upgrade("two")
    assert last_word(told) == "committed"
    listed = machine.json("holders")["holders"]
    # Its libraries are of the old image as well.
    assert [(h["what"], h["path"], h["generation"]) for h in listed if h["what"] != "map"] == [("cwd", "/opt/only-here", 1)], machine.report()
    assert "working directory is on another mount" in holder.verdict()
    wait_until(lambda: "generation 1 is released" in machine.log(), 15, "the release of generation 1")


def test_sleep_begun_before_ends_on_time_after_many(machine):
    """Sleeps of a known length, through as many upgrades as fit into them."""
    lay_out(machine)
    machine.start()
    holder = Holder(machine, "sleeper")
    over, images = at_least(1_200_000), ["one", "two"]
    while not over():
        images.reverse()
        machine.upgrade(images[0])
    assert holder.verdict() == "ok", machine.report()


def test_killed_while_it_moves(machine):
    """Processes that are killed at any moment of the upgrade: it goes on without them."""
    lay_out(machine)
    machine.start()
    for round_, image in enumerate(("two", "one", "two", "one")):
        holders = [Holder(machine, "threads", cgroup=f"victims/{n}") for n in range(3)]
        victims = [pid for holder in holders for pid in holder.pids()]
        upgrade = machine.popen("/usr/bin/initctl", "upgrade", f"/run/images/{image}", cgroup="session")
        for n, pid in enumerate(victims):
            wait_until(at_least((round_ + 1) * (n + 1) * 3000))
            os.kill(pid, signal.SIGKILL)
        output, _ = upgrade.communicate(timeout=30)
        assert output.strip().endswith("committed"), output + machine.report()
        for holder in holders:
            holder.verdict()
        assert stragglers(machine) == [], machine.report()
    assert_thawed(machine)
