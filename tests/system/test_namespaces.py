# SPDX-License-Identifier: MIT
"""Other mount namespaces than PID 1's: swapped with it where their root is the image, left alone where it is not.

Mount tables are compared as /proc/PID/mountinfo has them, with the numbers of mounts and of propagation groups replaced
by what they stand for.
"""
import contextlib
import errno
import os
import pathlib
import re
import shutil
import subprocess
from collections import Counter

import pytest
from machine import BUILD, Machine, mount_id, wait_until
from outside import assert_thawed, last_word
from seam import CHILDREN, COUNT, EXIT_AFTER, FAIL, Seam, errors_of
from test_migrate import PLACE, Holder, lay_out, own_pids

pytestmark = pytest.mark.timeout(90)

PROPAGATIONS = ["private", "slave", "shared", "unchanged"]


def ns_of(pid):
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def mountinfo(pid):
    """[(id, parent, root, point, {"shared": n, "master": n}, fstype)]"""
    found = []
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        dash = fields.index("-")
        groups = {f.partition(":")[0]: int(f.partition(":")[2] or 0) for f in fields[6:dash]}
        found.append((int(fields[0]), int(fields[1]), fields[3], fields[4], groups, fields[dash + 1]))
    return found


def tables(*pids):
    """The mounts of each process's namespace: where, on what, of what, in which groups (numbered as they come)."""
    numbers = {}
    result = []
    for pid in pids:
        mounts = mountinfo(pid)
        points = {m[0]: m[3] for m in mounts}
        lines = []
        for _, parent, root, point, groups, fstype in sorted(mounts, key=lambda m: (m[3], m[1] in points, m[2], m[5])):
            if "/run/molt/vault" in point:
                continue
            named = {key: numbers.setdefault(n, len(numbers)) for key, n in sorted(groups.items())
                     if key in ("shared", "master")}
            lines.append((point, points.get(parent), root, fstype, tuple(named.items())))
        result.append(lines)
    return result


class Shell(Holder):
    """A subject in a mount namespace of its own."""

    def __init__(self, machine, subject, *unshare, place=PLACE, name=None):
        self.machine = machine
        self.cgroup = f"shells/{name or subject}-{len(machine.shells)}"
        machine.shells.append(self)
        if not (machine.share / "holder").exists():
            shutil.copy2(BUILD / "tools/holder", machine.share / "holder")
        # The shell stays beside it: a namespace with nobody but a prisoner shows no mounts.
        self.process = machine.popen("unshare", *(unshare or ("-m",)), "sh", "-c", f"/run/share/holder {subject} {place}; :",
                                     cgroup=self.cgroup, stdin=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line == "ready\n", line + self.process.stdout.read()

    @property
    def pid(self):
        return next(pid for pid in self.pids() if ns_of(pid) != ns_of(self.machine.pid))

    def release(self):
        """What the namespace's root says it is."""
        text = pathlib.Path(f"/proc/{self.pid}/root/etc/os-release").read_text()
        return text.partition('VERSION_ID="')[2].partition('"')[0]


def lost(machine):
    """Roots, cwds and directories that processes hold and that are on no mount of their namespaces."""
    seen, found = {}, []
    pids = machine.pids()
    for pid in pids + [machine.pid]:
        with contextlib.suppress(OSError):
            seen.setdefault(ns_of(pid), set()).update(m[0] for m in mountinfo(pid) if "/run/molt/vault" not in m[3])
    for pid in pids:
        with contextlib.suppress(OSError):
            links = [f"/proc/{pid}/root", f"/proc/{pid}/cwd"]
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
            found += [(link, os.readlink(link)) for link in links
                      if os.path.isdir(link) and mount_id(link) not in seen[ns_of(pid)]]
    return found


@pytest.fixture
def shared(tmp_path):
    """A machine whose mounts are all shared, as systemd has them."""
    with Machine(tmp_path, shared=True) as machine:
        machine.shells = []
        lay_out(machine)
        yield machine


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_swapped_with_all_they_hold(shared, propagation):
    """What stands in them, directory descriptors and jails included, is on the new image; and their mounts are as before."""
    machine = shared.start()
    shells = [Shell(machine, subject, "-m", "--propagation", propagation) for subject in ("cwd", "fds", "jail")]
    pids = [machine.pid] + [s.pid for s in shells[:2]]
    before = tables(*pids)
    for image in ("two", "one", "two"):
        code, told = machine.upgrade(image)
        assert (code, last_word(told)) == (0, "committed")
        assert {s.release() for s in shells[:2]} == {image}
        assert lost(machine) == [], machine.report()
        assert tables(*pids) == before
        assert_thawed(machine)
    assert [s.verdict() for s in shells] == ["ok"] * 3, machine.report()


def test_rollback(shared):
    """Back to what was before, for namespaces of before the upgrade and for one made after it; what the new image had no
    place for included."""
    machine = shared
    machine.images["one"].write("opt/only/file-0", "here\n")
    for image in machine.images.values():
        image.conf(Upgrade={"AutoCommit": "no", "CommitTimeoutSec": "60s"})
    machine.start()
    shells = [Shell(machine, "fds", "-m", "--propagation", "slave"), Shell(machine, "cwd", place="/opt/only")]
    pids = [machine.pid] + [s.pid for s in shells]
    before = tables(*pids)
    machine.upgrade("two")
    assert [s.release() for s in shells] == ["two", "two"] and tables(*pids) == before
    shells.append(Shell(machine, "fds", "-m", "--propagation", "shared"))
    newborn = tables(machine.pid, shells[-1].pid)
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.image() == "one" and [s.release() for s in shells] == ["one"] * 3
    assert lost(machine) == [], machine.report()
    assert tables(*pids) == before and tables(machine.pid, shells[-1].pid) == newborn
    assert machine.upgrade("two")[0] == 0  # and once more, the same way
    assert machine.initctl("commit").returncode == 0
    assert [s.release() for s in shells] == ["two"] * 3
    # Nothing of the old image is mounted anywhere, not even where a namespace has copied the vault.
    assert not [m for s in shells for m in mountinfo(s.pid) if "/run/molt/vault/" in m[3]]
    assert [s.verdict() for s in shells[::2]] == ["ok", "ok"], machine.report()


def test_own_root_is_left_alone(shared):
    """A container with a root of its own keeps it, whatever it is made of; and one that only a user namespace could
    enter stays whole on the old image, and the log says so."""
    machine = shared.start()
    container = machine.popen("unshare", "-m", "sh", "-ec", "mkdir /tmp/root; mount -t tmpfs tmpfs /tmp/root; cd /tmp/root; "
                              "mkdir old usr proc; mount --bind /usr usr; mount --bind /proc proc; ln -s usr/bin usr/lib usr/lib64 .; pivot_root . old; "
                              "umount -l /old; echo ready; read line; echo /*", cgroup="container", stdin=subprocess.PIPE)
    foreign = machine.popen("unshare", "-Urm", "sh", "-c", "echo ready; read line; cat /etc/os-release", cgroup="foreign",
                            stdin=subprocess.PIPE)
    assert container.stdout.readline() == foreign.stdout.readline() == "ready\n"
    inside = [pid for pid in machine.pids() if ns_of(pid) != ns_of(machine.pid)]
    before = {pid: tables(pid) for pid in inside}
    plan = machine.json("plan", "/run/images/two")
    assert sorted(n["action"] for n in plan["namespaces"]) == ["cannot", "leave"]
    assert "another user namespace owns it" in machine.initctl("plan", "/run/images/two").stdout.replace("\n         ", " ")
    assert machine.upgrade("two")[0] == 0
    assert {pid: tables(pid) for pid in inside} == before
    assert "another user namespace owns it" in machine.log()
    for process, expected in ((container, "/bin"), (foreign, 'VERSION_ID="one"')):
        assert expected in process.communicate("\n", timeout=10)[0]


@pytest.mark.parametrize("subject,what", [("fds", {"dirfd"}), ("jail", {"root", "cwd"})])
def test_the_plan_tells_what_they_hold(shared, subject, what):
    """Also where nobody but a prisoner of a jail is left in one, who sees no mounts."""
    machine = shared.start()
    shell = Shell(machine, subject)
    if subject == "jail":
        # What is left of it then is the prisoner alone.
        others = [pid for pid in shell.pids() if ns_of(pid) == ns_of(shell.pid) and os.readlink(f"/proc/{pid}/root") == "/"]
        for pid in others:
            os.kill(pid, 9)
        wait_until(lambda: not set(others) & set(shell.pids()), what="the end of the shell")
    inside = {own_pids(pid)[-1] for pid in shell.pids() if ns_of(pid) != ns_of(machine.pid)}
    plan = machine.json("plan", "/run/images/two")
    mine = [h for h in plan["holders"] if h["pid"] in inside and h["what"] in ("root", "cwd", "dirfd")]
    assert {h["what"] for h in mine} >= what and {h["action"] for h in mine} == {"migrate"}, plan["holders"]
    assert machine.upgrade("two")[0] == 0
    if subject == "fds":
        assert shell.verdict() == "ok"


def test_service_in_a_namespace_of_its_own(shared):
    """Restarted onto the new image it counts as being there, though the image is another mount for it; kept, it is swapped."""
    machine = shared
    for image in machine.images.values():
        image.conf(services=("again", "kept"))
        for name, policy in (("again", "restart"), ("kept", "keep")):
            image.service(name, "[Service]\nExecStart=/usr/bin/unshare -m /bin/sleep 1000\n"
                          f"[Upgrade]\nPolicy={policy}\n")
    machine.start()
    for name in ("again", "kept"):
        machine.wait_state(name)
    pid = machine.service_pids("kept")[0]
    wait_until(lambda: ns_of(pid) != ns_of(machine.pid), what="the namespace of kept")
    assert [n["action"] for n in machine.json("plan", "/run/images/two")["namespaces"]] == ["swap", "swap"]
    code, told = machine.upgrade("two")
    assert (code, last_word(told)) == (0, "committed")
    assert machine.unit("again")["exe_generation"] == 2 and machine.service_pids("kept") == [pid]
    assert "two" in pathlib.Path(f"/proc/{pid}/root/etc/os-release").read_text()


def test_events_propagate_as_before(shared):
    """A mount made later comes to whom it came to before, and to nobody else."""
    machine = shared.start()
    shells = {p: Shell(machine, "fds", "-m", "--propagation", p, name=p) for p in ("slave", "shared", "private")}

    def seen(point):
        return {name for name, s in shells.items() if any(m[3] == point for m in mountinfo(s.pid))}

    for image in ("two", "one"):
        machine.upgrade(image)
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
        assert seen("/mnt") == {"slave", "shared"}
        machine.run("umount", "/mnt")
        assert seen("/mnt") == set()
        subprocess.run(["nsenter", "-t", str(shells["shared"].pid), "-m", "mount", "-t", "tmpfs", "tmpfs", "/media"], check=True)
        assert seen("/media") == {"slave", "shared"} and any(m[3] == "/media" for m in mountinfo(machine.pid))
        machine.run("umount", "/media")
        subprocess.run(["nsenter", "-t", str(shells["slave"].pid), "-m", "mount", "-t", "tmpfs", "tmpfs", "/media"], check=True)
        assert seen("/media") == {"slave"} and not any(m[3] == "/media" for m in mountinfo(machine.pid))
        subprocess.run(["nsenter", "-t", str(shells["slave"].pid), "-m", "umount", "/media"], check=True)


def test_twenty_upgrades_leave_no_mount(shared):
    machine = shared.start()
    shells = [Shell(machine, "fds", "-m", "--propagation", p, name=p) for p in ("slave", "private")]
    pids = [machine.pid] + [s.pid for s in shells]
    machine.upgrade("two")
    before = [len(mountinfo(pid)) for pid in pids], tables(*pids)
    descriptors = len(os.listdir(f"/proc/{machine.pid}/fd"))
    for n in range(20):
        machine.upgrade(("one", "two")[n % 2])
    # The roots of old generations are held until a look finds that nobody else does.
    wait_until(lambda: ([len(mountinfo(pid)) for pid in pids], tables(*pids)) == before
               and len(os.listdir(f"/proc/{machine.pid}/fd")) <= descriptors, 20, "the same mounts and descriptors")
    assert [s.verdict() for s in shells] == ["ok", "ok"]


@pytest.mark.parametrize("both", [False, True], ids=["slave", "slave and shared"])
def test_master_outside(tmp_path, both):
    """A root that is a slave of a mount outside of the machine loses it, for the kernel has slaves within one file system
    only. The plan says so; what is mounted on other mounts still propagates, and it is shared with whom it was."""
    with Machine(tmp_path, shared=both, slave=True) as machine:
        machine.shells = []
        lay_out(machine)
        machine.start()
        master = f"{machine.tmp}/root"

        def comes(place):
            enter = ["nsenter", "-t", str(machine.process.pid), "-m"]
            subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", master + place], check=True)
            found = any(m[3] == place for m in mountinfo(machine.pid))
            subprocess.run([*enter, "umount", master + place], check=True)
            return found

        shell = Shell(machine, "fds", "-m", "--propagation", "slave")
        before = tables(machine.pid, shell.pid)
        warnings = machine.json("plan", "/run/images/two")["warnings"]
        assert "the root mount is a slave of one outside of this system" in " ".join(warnings), warnings
        assert ("a slave of a mount that is not exchanged" in " ".join(warnings)) == (not both), warnings
        assert comes("/mnt")
        assert machine.upgrade("two")[0] == 0
        assert not comes("/mnt")
        root = [point for point, parent, *_ in before[0] if point == "/"]
        assert root == ["/"] and len(tables(machine.pid)[0]) == len(before[0])
        assert next(m[4] for m in mountinfo(machine.pid) if m[3] == "/").keys() == ({"shared"} if both else set())
        assert next(m[4] for m in mountinfo(shell.pid) if m[3] == "/").keys() == ({"master"} if both else set())
        assert shell.verdict() == "ok"


CALLS = ("syscall", "setns", "umount2", "fchdir", "chroot", "send", "sendmsg", "recv")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", [FAIL, EXIT_AFTER], ids=["fails", "killed"])
def test_a_child_fails_or_is_killed_at_each_step(shared, mode):
    """Either everything is as before, in every namespace, or all of them are on the new image."""
    machine = shared
    seam = Seam(machine)
    machine.start()
    shells = [Shell(machine, "fds", "-m", "--propagation", "slave", name="slave"), Shell(machine, "jail")]
    pids = [machine.pid] + [s.pid for s in shells]
    before, outcomes = tables(*pids), set()
    for image in ("two", "one"):  # from then on each makes about as many calls
        machine.upgrade(image)
    seam.arm(COUNT, who=CHILDREN)
    machine.upgrade("two")
    seam.disarm()
    steps = [step for step in steps_in_namespaces(seam.calls()) if mode != FAIL or errors_of(step[0])]
    assert len(steps) > 60, seam.calls()
    words, hit = "", 0
    for call, nth in steps:
        old, new = ("two", "one") if machine.image() == "two" else ("one", "two")
        error = max(errors_of(call), default=errno.EIO, key=lambda one: one == errno.EIO)
        seam.arm(mode, nth=nth, argument=error, who=CHILDREN, place=(call.name, call.site))
        code, told = machine.upgrade(new, check=False)
        seam.disarm()
        hit += seam.hit
        outcomes.add(code)
        words += last_word(told) + "\n"
        where = f"call {nth} of {call}, {error}: {last_word(told)}\n{machine.report()}"
        # A look, hooks and judging go by the same places now and then: of these a hook alone rolls back.
        assert code in (0, 3) or (code == 4 and "hook" in last_word(told)), where
        assert all(s.process.poll() is None for s in shells), f"{[s.process.poll() for s in shells]} {where}"
        assert {machine.image(), *(s.release() for s in shells[:1])} == {new if code == 0 else old}, where
        assert tables(*pids) == before, where
        assert lost(machine) == [], where
    assert hit > len(steps) * 0.8, f"only {hit} of {len(steps)} came to the call that was meant"
    assert 3 in outcomes and (mode == FAIL or "pivots mount namespaces was killed" in words), words
    assert_thawed(machine)
    assert [s.verdict() for s in shells] == ["ok", "ok"]


def steps_in_namespaces(calls):
    """From when the scout enters the first to when the porter has left the last: (call, the how manyeth of its place).

    By its place, because other children, of which there are many, make now more and now fewer calls. They enter
    namespaces too, those of networks, but from elsewhere and less often.
    """
    sites = [call.site for call in calls if call.name == "setns"]
    entering = max(set(sites), key=sites.count)
    at = [n for n, call in enumerate(calls) if call.name == "setns" and call.site == entering]
    seen, steps = Counter(), []
    for n, call in enumerate(calls):
        place = call.name, call.site
        seen[place] += 1
        if at[0] <= n <= at[-1] and call.name in CALLS:
            steps.append((call, seen[place]))
    return steps


def test_namespaces_that_come_and_go(shared):
    """Those that come between the look at them and the freeze are noticed: it is planned again, and none is forgotten."""
    machine = shared.start()
    storm = machine.popen("sh", "-c", "while :; do unshare -m sleep 0.01 & unshare -m true; done", cgroup="storm")
    shells = [Shell(machine, "fds", name="fds")]
    done = 0
    for n in range(12):
        target = "one" if machine.image() == "two" else "two"
        code, told = machine.upgrade(target, check=False)
        assert code in (0, 3), told
        assert code == 0 or re.search(r"(come and go|vfork).*; tried \d+ times in", last_word(told)), last_word(told)
        assert {machine.image(), shells[0].release()} == {target if code == 0 else {"one": "two", "two": "one"}[target]}
        done += code == 0
    assert done > 0, machine.report()
    (machine.cgroup / "tree/storm/cgroup.kill").write_text("1")
    storm.wait(20)
    assert lost(machine) == [] and shells[0].verdict() == "ok"


def test_rollbacks_leave_no_descriptor(shared):
    """The old roots of namespaces are let go as soon as nobody holds anything of them."""
    machine = shared
    for image in machine.images.values():
        image.conf(Upgrade={"AutoCommit": "no", "CommitTimeoutSec": "60s"})
    machine.start()
    shells = [Shell(machine, "cwd", name=f"cwd-{n}") for n in range(3)]

    def descriptors():
        return len(os.listdir(f"/proc/{machine.pid}/fd"))

    def around():
        machine.upgrade("two")
        assert machine.initctl("rollback", check=False).returncode == 4, machine.report()

    around()
    wait_until(lambda: "generation 2 is released" in machine.log(), 20, "the end of what the first has left")
    before = descriptors()
    for _ in range(6):
        around()
    wait_until(lambda: descriptors() <= before, 30, f"no more than {before} descriptors")
    assert [s.verdict() for s in shells] == ["ok"] * 3
