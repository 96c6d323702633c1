# SPDX-License-Identifier: MIT
"""Looking at a machine from outside: what no process of it could lie about."""
import contextlib
import os
import pathlib

from machine import mount_id, wait_until

VAULT = "/run/molt/vault/"


def mount_table(machine):
    """{mount id: (parent, mount point)} of the machine, as PID 1 sees it."""
    table = {}
    for line in pathlib.Path(f"/proc/{machine.pid}/mountinfo").read_text().splitlines():
        number, parent, _, _, point = line.split()[:5]
        table[int(number)] = (int(parent), point)
    return table


def visible_mounts(machine):
    """The ids of what is mounted where a process can get to: an old root in the vault is not."""
    return {number for number, (_, point) in mount_table(machine).items() if not point.startswith(VAULT)}


def tasks(pid):
    try:
        return [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def stragglers(machine, pids=None, fds=False):
    """Every root and cwd (and directory descriptor) of a task that lies on no mount of the system."""
    seen = visible_mounts(machine)
    found = []
    for pid in pids if pids is not None else machine.pids():
        for tid in tasks(pid):
            links = [f"/proc/{tid}/root", f"/proc/{tid}/cwd"]
            with contextlib.suppress(OSError):
                links += [f"/proc/{tid}/fd/{fd}" for fd in os.listdir(f"/proc/{tid}/fd") if fds]
            for link in links:
                with contextlib.suppress(OSError):
                    if link.startswith(f"/proc/{tid}/fd/") and not os.path.isdir(link):
                        continue
                    if mount_id(link) not in seen:
                        found.append((link, os.readlink(link), comm(tid)))
    return found


def comm(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"


def events(directory):
    """cgroup.events as a dict: {"populated": 1, "frozen": 0}."""
    lines = (pathlib.Path(directory) / "cgroup.events").read_text().splitlines()
    return {key: int(value) for key, value in map(str.split, lines)}


@contextlib.contextmanager
def held_still(machine, name="session"):
    """Freezes one cgroup of the tree, while molt has no upgrade under way: a look at it that nothing evades."""
    directory = machine.cgroup / "tree" / name
    (directory / "cgroup.freeze").write_text("1")
    try:
        wait_until(lambda: events(directory)["frozen"], what=f"{name} frozen")
        yield
    finally:
        (directory / "cgroup.freeze").write_text("0")


def assert_thawed(machine):
    """The tree and everything in it is thawed, and processes run."""
    for directory in machine.cgroups():
        with contextlib.suppress(FileNotFoundError, OSError):
            flag = (directory / "cgroup.freeze").read_text().strip()
            assert flag == "0" and not events(directory)["frozen"], f"{directory} is frozen\n{machine.report()}"
    assert machine.run("/bin/echo", "alive").stdout == "alive\n"
    for pid in machine.pids():
        with contextlib.suppress(OSError):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            assert "TracerPid:\t0" in status, f"process {pid} is still traced\n{machine.report()}"


class Snapshot:
    """What must be the same after an upgrade that was refused."""

    def __init__(self, machine):
        status = machine.json("status")
        self.mounts = mount_table(machine)
        self.root = machine.mount_id(machine.pid)
        self.generation = status["system"]["generation"]
        self.services = {s["name"]: (s["state"], s["main_pid"]) for s in status["services"]}
        self.start = pathlib.Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[19]

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return f"<{vars(self)}>"


def assert_unchanged(machine, before):
    assert Snapshot(machine) == before, f"not as it was before\n{machine.report()}"
    assert_thawed(machine)


def last_word(events_):
    """What `initctl upgrade --json` said at the end."""
    assert events_, "initctl said nothing"
    return events_[-1].get("text", "")


def is_at_rest(machine):
    """Whether PID 1 has all it keeps for its next life, and nothing of the life before: what it costs then can be compared."""
    kinds = set()
    for entry in pathlib.Path(f"/proc/{machine.pid}/fd").iterdir():
        try:
            kinds.add(os.readlink(entry).split(" ")[0])
        except FileNotFoundError:
            return False
    return {"/memfd:molt-kept", "/memfd:molt-notes"} <= kinds and "/memfd:molt-state" not in kinds


def use(process):
    """What one process costs: descriptors and resident bytes."""
    resident = int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(os.listdir(f"/proc/{process}/fd")), resident
