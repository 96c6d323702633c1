# SPDX-License-Identifier: MIT
"""Why a process cannot be moved to another image, or not now: `initctl plan` and `initctl holders` give the reason and
say what to do, and the upgrade does what the plan said. In the plan's own words, since those are for people."""
import os
import pathlib
import re
import struct
import subprocess

import pytest
from daemons import FUSE, Daemon
from machine import mount_id, wait_until
from outside import last_word
from test_holders import PLACE, Possessor, of, plan, writable  # noqa: F401

pytestmark = pytest.mark.timeout(60)


def table(machine, verb, *arguments):
    """What a person sees: {group: its lines}."""
    text = machine.initctl(verb, *arguments, check=False, stderr=subprocess.DEVNULL).stdout
    groups, name = {}, None
    for line in text.splitlines():
        name = line if re.fullmatch(r"\S+", line) else name if line else None
        if name:
            groups[name] = groups.get(name, "") + line.strip() + "\n"
    return groups


def lines(machine, cgroup, verb="plan", *arguments):
    groups = table(machine, verb, *(arguments or (["/run/images/two"] if verb == "plan" else [])))
    assert cgroup in groups, groups
    return groups[cgroup]


def mounts_of(machine, cgroup, link="cwd"):
    procs = (machine.cgroup / "tree" / cgroup / "cgroup.procs").read_text().split()
    return {mount_id(f"/proc/{pid}/{link}") for pid in procs}


def test_traced(writable):
    machine = writable.start()
    Possessor(machine, "traced", cgroup="traced")
    told = lines(machine, "traced")
    assert re.search(r"cwd +stays +/opt/place\n", told), told
    assert re.search(r"-- task \d+ is already traced by process \d+ \(possess\)\n", told), told
    assert "-> stop the tracing, and the next upgrade moves it along\n" in told
    machine.upgrade("two")
    told = lines(machine, "traced", "holders")
    assert re.search(r"-- task \d+ is already traced by process \d+ \(possess\)\n", told), told
    assert "-> stop the tracing, and the next upgrade moves it along\n" in told


def test_parent_in_vfork(writable):
    machine = writable.start()
    Possessor(machine, "vfork", cgroup="vfork")
    told = lines(machine, "vfork")
    assert re.search(r"-- task \d+ waits in vfork\(2\) for its child: the upgrade waits for that\n", told), told
    assert re.search(r"-> if that takes long, end the child of process \d+\n", told), told


def test_uninterruptible_sleep(writable):
    """Two who look for the same thing in a file system that does not answer: the second waits for the first."""
    machine = writable.start()
    (machine.share / "hang").mkdir()
    daemon = Daemon(machine, FUSE, "/run/share/hang", "hang")
    ask = ["/bin/sh", "-c", f"cd {PLACE}; exec /usr/bin/stat /run/share/hang/x"]
    first = machine.popen(*ask, cgroup="first")
    daemon.asked()
    second = machine.popen(*ask, cgroup="sleeper")
    procs = machine.cgroup / "tree/sleeper/cgroup.procs"

    def state():
        stats = [pathlib.Path(f"/proc/{pid}/stat").read_text() for pid in procs.read_text().split()]
        return [stat.rpartition(") ")[2][0] for stat in stats if "(stat)" in stat]

    wait_until(lambda: state() == ["D"], what="an uninterruptible sleep")
    document = plan(machine)
    told = lines(machine, "sleeper")
    reason = r"task (\d+) is in an uninterruptible sleep \(in syscall \d+ at \w+\): nothing can freeze before it wakes"
    match = re.search(f"-- {reason}\n", told)
    assert match, told
    assert re.search(r"cwd +migrate +/opt/place\n", told), told
    assert f"-> see what task {match[1]} waits for: a disk or a network file system that does not answer\n" in told
    # And for those that hold nothing that could be moved.
    assert any(re.match(rf"task {match[1]} \(stat, of sleeper\) is in an uninterruptible sleep \(in syscall \d+ at \w+\): an upgrade is "
                        r"refused as long as it is\. See what it waits for", text) for text in document["warnings"]), document["warnings"]
    (machine.cgroup / "outside/cgroup.kill").write_text("1")
    for process in (daemon.process, first, second):
        process.communicate(timeout=10)
    machine.run("umount", "/run/share/hang")
    assert not any("uninterruptible" in text for text in plan(machine)["warnings"])


# ---- 32 bit --------------------------------------------------------------------------------------


def narrow_program():
    """An i386 program: says "ready", reads its standard input to the end, and exits with 7; with 3 if that is disturbed."""
    base, start = 0x08048000, 52 + 32
    code = bytes.fromhex(
        "b804000000" "bb01000000" "b9") + struct.pack("<I", base + start + 68) + bytes.fromhex("ba06000000" "cd80"  # write(1, text, 6)
        "83ec10"  # room for a byte
        "b803000000" "31db" "89e1" "ba01000000" "cd80"  # again: read(0, esp, 1)
        "85c0" "7fed"  # more
        "7407" "bb03000000" "eb05"  # an error
        "bb07000000"
        "b801000000" "cd80")  # exit
    code = code.ljust(68, b"\x90") + b"ready\n"
    size = start + len(code)
    header = b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000) + code


def start_narrow(machine, *before):
    program = machine.share / "narrow"
    program.write_bytes(narrow_program())
    program.chmod(0o755)
    process = machine.popen("/bin/sh", "-c", f"{'; '.join([f'cd {PLACE}', *before, 'exec /run/share/narrow'])}", cgroup="narrow",
                            stdin=subprocess.PIPE)
    line = process.stdout.readline()
    assert line == "ready\n", (line + process.stdout.read(), process.wait())
    return process


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="i386 programs run on x86_64")
def test_32_bit(writable):
    """It stays where it is, by name; everybody else, and the one beside it in the same cgroup, moves on."""
    machine = writable.start()
    process = start_narrow(machine, "exec 5<.")
    beside = Possessor(machine, "cwd", cgroup="narrow")
    held = {(h["comm"], h["what"]): h for h in of(plan(machine), "cwd", "dirfd")}
    assert held["possess", "cwd"]["action"] == "migrate"
    for what in ("cwd", "dirfd"):
        assert held["narrow", what]["action"] == "stays"
        assert re.fullmatch(r"task \d+ runs in 32-bit mode: its system calls are not ours", held["narrow", what]["why"])
    told = lines(machine, "narrow")
    assert re.search(r"-- task \d+ runs in 32-bit mode: its system calls are not ours\n", told), told
    assert re.search(r"-> end process \d+ \(narrow, of narrow\), or log out of its session, to release it\n", told), told
    for image in ("two", "one", "two"):
        code, said = machine.upgrade(image)
        assert code == 0 and last_word(said) == "committed"
    assert re.search(r"what process \d+ holds of the old image stays: task \d+ runs in 32-bit mode", machine.log()), machine.log()
    listed = of(machine.json("holders"), "cwd", "dirfd", "root")
    assert {(h["comm"], h["what"], h["generation"]) for h in listed} == {("narrow", "cwd", 1), ("narrow", "dirfd", 1)}, listed
    assert all("32-bit" in h["why"] and h["advice"].startswith("end process ") for h in listed)
    beside.end()
    process.stdin.close()
    process.stdout.close()
    assert process.wait(10) == 7, "it was disturbed"
    wait_until(lambda: "generation 1 is released" in machine.log(), 15, "the release of generation 1")


# ---- zombies -------------------------------------------------------------------------------------


def test_zombie_holds_nothing(writable):
    machine = writable.start()
    Possessor(machine, "zombie", cgroup="zombie")
    assert not [h for h in of(plan(machine), "cwd", "root", "dirfd", "exe", "file") if h["unit"] == "zombie"]
    machine.upgrade("two")
    assert not [h for h in machine.json("holders")["holders"] if h["what"] != "map"]  # its parent's libraries


def test_zombie_whose_thread_lives(writable):
    """The process is a zombie to everybody who looks at its first thread; another one holds on."""
    machine = writable.start()
    holder = Possessor(machine, "read", "map-private", "leaderless", cgroup="leaderless")
    held = {h["what"]: h for h in of(plan(machine), "cwd", "file", "map")}
    pid = held["cwd"]["pid"]
    assert (held["cwd"]["action"], held["cwd"]["path"]) == ("migrate", PLACE)
    assert {what: (h["action"], h["path"]) for what, h in held.items() if what != "cwd"} == {
        "file": ("stays", f"{PLACE}/data"), "map": ("stays", f"{PLACE}/data")}
    assert {h["pid"] for h in held.values()} == {pid} and all(h["tid"] != pid for h in held.values())
    assert all(h["comm"] == "possess" for h in held.values())
    machine.upgrade("two")
    listed = of(machine.json("holders"), "cwd", "file", "map")
    assert {(h["what"], h["generation"]) for h in listed} == {("file", 1), ("map", 1)}, listed
    told = lines(machine, "leaderless", "holders")
    assert f"-> end process {pid} (possess, of leaderless), or log out of its session, to release it\n" in told
    assert "generation 1 is released" not in machine.log()
    holder.end()
    wait_until(lambda: "generation 1 is released" in machine.log(), 15, "the release of generation 1")
