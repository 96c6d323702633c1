# SPDX-License-Identifier: MIT
"""Mounts that are no single mount at a path of their own: stacked ones, buried ones, and those where the new image has a
symbolic link."""
import errno
import subprocess
from collections import Counter

import pytest
from helpers import answer, request
from machine import Machine
from outside import assert_thawed, last_word
from seam import CHILDREN, COUNT, CRASH, EXIT_AFTER, FAIL, INIT, Seam, errors_of
from test_namespaces import Shell, lost, steps_in_namespaces, tables
from test_refuse import refused, then_upgrades

pytestmark = pytest.mark.timeout(120)

PLACES = ("data/file", "srv/deep/x/file", "opt/place/file")

# Each mount has a file that says which it is. B on A, D over the directory of C, and E on D; one file on another.
SCENE = """set -e
tmpfs() { mount -t tmpfs "$1" "$2"; echo "$1" >"$2/name"; }
tmpfs A /data; mkdir /data/sub; tmpfs A1 /data/sub; tmpfs B /data; tmpfs B1 /data
tmpfs C /srv/deep/x; tmpfs C1 /srv/deep/x; tmpfs D /srv; tmpfs E /srv
echo F >/run/F; echo G >/run/G
mount --bind /run/F /opt/place/file; mount --bind /run/G /opt/place/file
"""
SEEN = ["/data B1", "/data B", "/data A", "/srv E", "/srv D", "/srv/deep/x C1", "/srv/deep/x C", "G", "F"]
# Takes it to pieces, and says what it was made of.
PIECES = """set -e
for point in /data /data /data /srv /srv /srv/deep/x /srv/deep/x; do
    echo "$point $(cat $point/name)"
    if [ "$(cat $point/name)" = A ]; then test "$(cat /data/sub/name)" = A1; umount /data/sub; fi
    umount $point
done
cat /opt/place/file; umount /opt/place/file; cat /opt/place/file; umount /opt/place/file
"""


def lay_out(machine):
    for image in machine.images.values():
        for place in PLACES:
            image.write(place, "")


@pytest.fixture
def private(machine):
    machine.shells = []
    lay_out(machine)
    return machine


def inside(shell, script):
    """Runs it in the shell's mount namespace; what it says."""
    return subprocess.run(["nsenter", "-m", "-p", "-t", str(shell.pid), "sh", "-c", script], check=True, capture_output=True,
                          text=True, timeout=20).stdout


def roll_back(machine):
    assert machine.initctl("rollback", check=False).returncode == 4, machine.report()
    assert machine.image() == "one"


def pieces(machine):
    return machine.run("sh", "-c", PIECES).stdout.splitlines()


def test_stacked_and_buried(private):
    """They are moved as what they are, there and back again."""
    machine = private.start()
    machine.run("sh", "-c", SCENE)
    before = tables(machine.pid)
    plan = machine.json("plan", "/run/images/two")
    assert {m["path"]: m["action"] for m in plan["mounts"]}["/data"] == "move"
    for image in ("two", "one", "two"):
        machine.upgrade(image)
        assert machine.image() == image and tables(machine.pid) == before, machine.report()
        assert lost(machine) == []
    assert pieces(machine) == SEEN


def test_rolled_back(private):
    for image in private.images.values():
        image.conf(Upgrade={"AutoCommit": "no", "CommitTimeoutSec": "60s"})
    machine = private.start()
    machine.run("sh", "-c", SCENE)
    before = tables(machine.pid)
    machine.upgrade("two")
    assert tables(machine.pid) == before
    roll_back(machine)
    assert machine.image() == "one" and tables(machine.pid) == before
    assert pieces(machine) == SEEN


@pytest.mark.parametrize("propagation", ["private", "slave"])
def test_in_another_namespace(private, propagation):
    machine = private.start()
    machine.run("sh", "-c", "mount --make-rshared / && mount --make-private /run")
    machine.images["two"].write("data/file", "")
    shell = Shell(machine, "fds", "-m", "--propagation", propagation, place="/opt/place")
    inside(shell, SCENE)
    before = tables(machine.pid, shell.pid)
    for image in ("two", "one"):
        code, told = machine.upgrade(image)
        assert shell.release() == image and tables(machine.pid, shell.pid) == before, machine.report()
    assert inside(shell, PIECES).splitlines() == SEEN
    assert shell.verdict() == "ok"


def test_stacked_on_a_shared_one(private):
    """Nothing can be moved off a shared mount, so what is below cannot be opened."""
    machine = private.start()
    machine.run("sh", "-c", "mount -t tmpfs A /data && mount --make-shared /data && mount -t tmpfs B /data")
    plan = machine.initctl("plan", "/run/images/two", check=False)
    assert plan.returncode == 3 and "stacked" in plan.stdout, plan.stdout
    reason, _ = refused(machine, "/run/images/two")
    assert "/data" in reason and "shared (unmount the upper one)" in reason
    machine.run("umount", "/data")
    then_upgrades(machine, "two")


def test_something_over_the_root(private):
    machine = private.start()
    machine.run("mount", "-t", "tmpfs", "over", "/")
    # No program can be started there any more, initctl neither.
    result, records = answer(request(machine, "upgrade", path="/run/images/two"))
    assert result == "refused" and "cannot move the mount at /:" in machine.log(), records


def steps_of(calls):
    """(call, the how manyeth of its place)"""
    seen, steps = Counter(), []
    for call in calls:
        seen[call.name, call.site] += 1
        steps.append((call, seen[call.name, call.site]))
    return steps


def trials(machine, who, mode, names):
    """One upgrade for each of the calls with those names, which fails there or ends the process that makes it."""
    seam = Seam(machine)
    machine.start()
    shells = [Shell(machine, "fds", "-m", "--propagation", "private", place="/opt/place")] if who == CHILDREN else []
    for shell in shells:
        inside(shell, SCENE)
    machine.run("sh", "-c", SCENE)
    pids = [machine.pid] + [s.pid for s in shells]
    before = tables(*pids)
    for image in ("two", "one"):
        machine.upgrade(image)
    seam.arm(COUNT, who=who)
    machine.upgrade("two")
    seam.disarm()
    steps = steps_of(seam.calls()) if who == INIT else steps_in_namespaces(seam.calls())
    steps = [(call, nth) for call, nth in steps if call.name in names and (mode != FAIL or errors_of(call))]
    outcomes, hit = [], 0
    for call, nth in steps:
        old, new = ("two", "one") if machine.image() == "two" else ("one", "two")
        error = max(errors_of(call), default=errno.EIO, key=lambda one: one == errno.EIO)
        seam.arm(mode, nth=nth, argument=error, who=who, place=(call.name, call.site))
        code, told = machine.upgrade(new, check=False)
        seam.disarm()
        where = f"call {nth} of {call}: {last_word(told)}\n{machine.report()}"
        outcomes.append(code)
        hit += seam.hit
        assert machine.image() in (old, new) and tables(*pids) == before, where
        assert lost(machine) == [], where
    assert hit > len(steps) * 0.8 and 3 in outcomes and 0 in outcomes, outcomes
    assert_thawed(machine)
    assert pieces(machine) == SEEN


@pytest.mark.timeout(240)
@pytest.mark.parametrize("who, mode", [(INIT, FAIL), (INIT, CRASH), (CHILDREN, FAIL), (CHILDREN, EXIT_AFTER)],
                         ids=["fails", "crashes", "child-fails", "child-ends"])
def test_at_each_step(private, who, mode):
    """Whatever call it is that fails, what was taken apart is put together again."""
    for image in private.images.values():
        image.conf(Manager={"CrashLoopSec": 0})
    trials(private, who, mode, ("syscall", "fchdir", "umount2"))


# Symbolic links in the new image

@pytest.fixture
def linked(tmp_path):
    """An image that has directories where the other has links."""
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        machine.shells = []
        lay_out_links(machine)
        yield machine


def lay_out_links(machine):
    one, two = machine.images["one"], machine.images["two"]
    for place in ("data/file", "srv/www/file", "other/file", "srv/there/file"):
        one.write(place, "")
    two.write("srv/there/file", "")
    two.write("srv/www/file", "")
    (two.directory / "data").symlink_to("srv/there")
    (two.directory / "other").symlink_to("/run")
    for image in machine.images.values():
        image.conf(Upgrade={"AutoCommit": "no", "CommitTimeoutSec": "60s"})


def mounted(machine):
    return {line[0] for line in tables(machine.pid)[0]}


def test_place_that_is_a_link(linked):
    """The mount goes where the link leads, so that its path leads to it as before; and back where it was."""
    machine = linked.start()
    machine.run("sh", "-c", "mount -t tmpfs A /data && echo A >/data/name && mkdir /data/sub && mount -t tmpfs B /data/sub")
    before = tables(machine.pid)
    shown = machine.initctl("plan", "/run/images/two").stdout
    assert "/data (to /srv/there)" in shown, shown
    for _ in range(2):
        machine.upgrade("two")
        assert {"/srv/there", "/srv/there/sub"} <= mounted(machine) and "/data" not in mounted(machine)
        assert machine.run("cat", "/data/name").stdout == "A\n"
        machine.initctl("reexec")
        roll_back(machine)
        assert tables(machine.pid) == before, machine.report()
    machine.upgrade("two")
    machine.initctl("commit")
    machine.run("umount", "/srv/there/sub", "/srv/there")


def test_place_inside_of_another_mount(linked):
    """Where a link leads into what is mounted itself, the mount goes into that: /var/run/x on an image with /var/run -> /run."""
    machine = linked
    machine.images["one"].write("other/x/file", "")
    machine.start()
    machine.run("sh", "-c", "mount -t tmpfs A /other/x && echo A >/other/x/name")
    reason, _ = refused(machine, "/run/images/two")
    assert "/other/x" in reason and "cannot be followed beyond /run" in reason, reason
    machine.run("mkdir", "/run/x")
    before = tables(machine.pid)
    for _ in range(2):
        machine.upgrade("two")
        assert "/run/x" in mounted(machine) and machine.run("cat", "/other/x/name", "/run/x/name").stdout == "A\nA\n"
        roll_back(machine)
        assert tables(machine.pid) == before, machine.report()
        assert machine.run("cat", "/other/x/name").stdout == "A\n"


def test_links_that_lead_nowhere_good(linked):
    machine = linked.start()
    machine.run("mount", "-t", "tmpfs", "A", "/other")
    reason, _ = refused(machine, "/run/images/two")
    assert "/other" in reason and "leads to /run, where the mount at /run goes" in reason, reason
    machine.run("sh", "-c", "umount /other; mount -t tmpfs A /data; mount -t tmpfs B /srv/there")
    reason, _ = refused(machine, "/run/images/two")
    assert "leads to /srv/there" in reason and "unmount one" in reason, reason
    machine.run("umount", "/data")
    (machine.images["three"].directory / "srv").symlink_to("srv")
    reason, _ = refused(machine, "/run/images/three")
    assert "/srv/there" in reason and "too many" in reason.lower() + "too many symbolic links", reason
    machine.run("umount", "/srv/there")
    machine.upgrade("two")


def test_link_in_another_namespace(linked, tmp_path):
    machine = linked.start()
    for image in machine.images.values():
        image.write("opt/place/file", "")
    shell = Shell(machine, "cwd", "-m", "--propagation", "private", place="/opt")
    inside(shell, "mount -t tmpfs A /data && echo A >/data/name")
    before = tables(machine.pid, shell.pid)
    machine.upgrade("two")
    assert "/srv/there" in {line[0] for line in tables(shell.pid)[0]}
    roll_back(machine)
    assert tables(machine.pid, shell.pid) == before
