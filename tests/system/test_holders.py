# SPDX-License-Identifier: MIT
"""Everything a process can have of an image: found, told with what becomes of it and what to do, and let pass or not.

tests/tools/possess.c gets one thing of each kind; who migrates is in test_migrate.py.
"""
import contextlib
import json
import pathlib
import platform
import re
import shutil
import subprocess

import pytest
from helpers import wait_file
from machine import BUILD, Machine, wait_until
from outside import last_word

pytestmark = pytest.mark.timeout(60)

PLACE = "/opt/place"
TOOL = "/run/share/possess"


@pytest.fixture
def writable(tmp_path):
    with Machine(tmp_path, writable=("one", "two")) as machine:
        for image in machine.images.values():
            image.write(f"{PLACE}/data", "x" * 8192)
        yield machine


def bring_tool(machine):
    # To /run: its program must not be what holds the old image.
    if not (machine.share / "possess").exists():
        shutil.copy2(BUILD / "tools/possess", machine.share / "possess")


class Possessor:
    """A process that has those things."""

    def __init__(self, machine, *kinds, place=PLACE, cgroup="session"):
        bring_tool(machine)
        self.process = machine.popen(TOOL, place, *kinds, cgroup=cgroup, stdin=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line == "ready\n", line + self.process.stdout.read()

    def end(self):
        self.process.stdin.close()
        with contextlib.closing(self.process.stdout) as output:
            output.read()
        self.process.wait(20)


def plan(machine, code=0):
    result = machine.initctl("--json", "plan", "/run/images/two", check=False, stderr=subprocess.DEVNULL)
    assert result.returncode == code, f"{result.stdout}\n{machine.report()}"
    return json.loads(result.stdout)


def of(document, *what):
    """The holders of those kinds that are not the libraries every program has."""
    return [h for h in document["holders"] if h["what"] in what and "/usr/lib" not in (h["path"] or "")]


def brief(holders):
    return sorted((h["what"], h["mode"], h["path"], h["action"]) for h in holders)


FOUND = {
    # kind: (what, mode, path, action); the last three block
    "read": ("file", "r", f"{PLACE}/data", "stays"),
    "write-removed": ("file", "w", f"{PLACE}/removed", "stays"),
    "map-private": ("map", None, f"{PLACE}/data", "stays"),
    "accepted": ("socket", None, f"{PLACE}/accepted", "stays"),
    "removed-socket": ("socket", None, f"{PLACE}/gone", "stays"),
    "watch": ("watch", None, None, "stays"),  # an overlay has no handles to find its path by
    "mark": ("watch", None, "/", "stays"),
    "ring": ("ring", None, PLACE, "stays"),
    "namespace": ("mntns", None, "/", "migrate"),
    "write": ("file", "rw", f"{PLACE}/data", "blocks"),
    "map-shared": ("map", "rw", f"{PLACE}/data", "blocks"),
    "map-latent": ("map", "rw", f"{PLACE}/data", "blocks"),
    "listen": ("socket", None, f"{PLACE}/stream", "blocks"),
    "datagram": ("socket", None, f"{PLACE}/datagram", "blocks"),
    "relative": ("socket", None, "relative", "blocks"),
    "foreign-network": ("socket", None, f"{PLACE}/foreign", "blocks"),
}


ADVICE = {
    None: "end {}, or log out of its session, to release it",
    "watch": "start {} again for it to watch the new image",
    "mark": "start {} again for it to watch the new image",
} | {kind: "end {}, or have it write below /run or on a mount of its own" for kind in ("write", "map-shared", "map-latent")} | {
    kind: "end {}, or have it bind it below /run" for kind in ("listen", "datagram", "relative", "foreign-network")}


def rings_have_paths():
    return tuple(int(n) for n in platform.release().split(".")[:2]) >= (6, 13)


@pytest.mark.parametrize("kind", FOUND)
def test_each_kind_is_found(writable, kind):
    machine = writable.start()
    Possessor(machine, kind)
    expected = FOUND[kind]
    document = plan(machine, 3 if expected[3] == "blocks" else 0)
    holders = of(document, expected[0])
    if kind == "ring" and not rings_have_paths():
        assert holders == []  # this kernel tells only their names
        return
    if kind == "watch":
        assert holders[0]["path"].startswith("(inode ")
        holders[0]["path"] = None
    assert brief(holders) == [expected], machine.report()
    assert holders[0]["comm"] == "possess" and holders[0]["unit"] == "session" and holders[0]["uid"] == 0
    pid = holders[0]["pid"]
    if expected[3] == "migrate":
        return  # it is swapped as a whole, and test_namespaces.py has how
    assert holders[0]["advice"] == ADVICE.get(kind, ADVICE[None]).format(f"process {pid} (possess, of session)")
    if expected[3] == "blocks":
        assert len(document["blockers"]) == 1 and expected[2] in document["blockers"][0]
        assert f"process {pid} (possess)" in document["blockers"][0]


@pytest.mark.parametrize("kind", ["elsewhere", "own-root"])
def test_what_is_not_of_the_image_is_left_alone(writable, kind):
    machine = writable.start()
    Possessor(machine, kind)
    assert of(plan(machine), "socket", "mntns", "watch") == []


def test_descriptors_under_way_are_a_warning(writable):
    machine = writable.start()
    Possessor(machine, "queue")
    warnings = plan(machine)["warnings"]
    assert any("1 descriptor sent to process" in text and "(possess)" in text for text in warnings), warnings


@pytest.mark.parametrize("kind", ["write", "map-shared", "listen", "datagram"])
def test_what_forbids_the_upgrade_refuses_it_and_force_says_yes_by_name(writable, kind):
    machine = writable.start()
    Possessor(machine, kind, "write-removed")
    code, told = machine.upgrade("two", check=False)
    assert code == 3 and FOUND[kind][2] in last_word(told)
    code, told = machine.upgrade("two", "--force", check=False)
    assert code == 0 and last_word(told) == "committed", machine.report()
    assert "forced in spite of: process" in machine.log() and FOUND[kind][2] in machine.log()


@pytest.mark.parametrize("kinds, refused", [(["queue-writer"], "no process of the tree has in sight"), (["write-removed"], None),
                                            (["map-once-writable"], None), ([], None)])
def test_the_kernel_knows_of_writers_that_nobody_has_in_sight(writable, kinds, refused):
    """Asked once everything stands still, and it leaves the image as writable as it was."""
    machine = writable.start()
    Possessor(machine, *(kinds or ["read"]), cgroup="writer")
    code, told = machine.upgrade("two", check=False)
    if refused:
        assert code == 3 and refused in last_word(told), told[-1]
        code, told = machine.upgrade("two", "--force", check=False)
    assert code == 0 and last_word(told) == "committed"
    machine.run("touch", f"{PLACE}/still-writable")
    machine.upgrade("one")


def test_every_blocker_that_is_forced_is_in_the_log(writable):
    machine = writable.start()
    Possessor(machine, "write", "map-shared", "listen", "datagram")
    code, _ = machine.upgrade("two", "--force", check=False)
    assert code == 0
    forced = [line for line in machine.log().splitlines() if "forced in spite of" in line]
    assert len(forced) == 4 and all(any(FOUND[k][2] in line for line in forced)
                                    for k in ("write", "listen", "datagram")), forced


def run_service(machine, policy, *kinds):
    bring_tool(machine)
    for image in machine.images.values():
        image.service("owner", f"[Service]\nExecStart=/bin/sh -c 'sleep 1000 | exec {TOOL} {PLACE} {' '.join(kinds)}"
                      f" >/run/ready'\n[Upgrade]\nPolicy={policy}\n")
        image.conf(services=["owner.service"])
    machine.start()
    machine.wait_state("owner")
    wait_file(machine.path("/run/ready"))


@pytest.mark.parametrize("kind", ["write", "map-shared", "listen"])
def test_a_policy_that_replaces_the_process_lifts_the_block(writable, kind):
    machine = writable
    run_service(machine, "restart", kind)
    document = plan(machine)
    held = of(document, FOUND[kind][0])
    assert [h["action"] for h in held if h["path"] == FOUND[kind][2]] == ["replace"], document
    assert document["blockers"] == []
    if kind != "listen":
        assert any("stays with the old one" in text for text in document["warnings"])
    _, told = machine.upgrade("two")
    assert last_word(told) == "committed"
    wait_until(lambda: "generation 1 is released" in machine.log(), 15, "the release of generation 1")


def test_a_service_that_is_kept_is_blamed_by_name(writable):
    machine = writable
    run_service(machine, "keep", "write")
    document = plan(machine, 3)
    held = [h for h in of(document, "file") if h["action"] == "blocks"]
    assert held[0]["unit"] == "owner.service"
    assert held[0]["advice"] == ("keep what owner.service writes on a mount of its own, stop it, "
                                 "or give it Policy=restart")


def test_a_socket_of_pid_1_on_the_image(writable):
    """PID 1 goes on holding it whatever becomes of the service, and nobody would find it on the new image."""
    machine = writable
    for image in machine.images.values():
        image.service("served", "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=handover\n"
                      f"[Socket]\nListenStream={PLACE}/served\n")
        image.conf(services=["served.service"])
    machine.start()
    machine.wait_state("served")
    document = plan(machine, 3)
    held = of(document, "socket")
    assert {h["path"] for h in held} == {f"{PLACE}/served"} and {h["action"] for h in held} == {"blocks"}
    assert {h["advice"] for h in held} == {"name a place below /run in ListenStream= of served.service"}


def test_thousands_of_alike_are_counted(writable):
    machine = writable.start()
    Possessor(machine, "many-fds", "many-maps")
    document = plan(machine)
    for what, total in (("file", 3000), ("map", 1)):
        held = [h for h in of(document, what) if h["path"] == f"{PLACE}/data"]
        assert sum(1 + (h["more"] or 0) for h in held) == total
        assert len(held) <= 8
    text = machine.initctl("plan", "/run/images/two").stdout
    assert "file r x3000" in text, text


def test_who_may_not_do_it_is_told_to_stay(writable):
    """The system calls that move a process are its own: fchdir(2) and chroot(2) ask what it may."""
    machine = writable
    for image in machine.images.values():
        image.write("opt/shut/data", "")
        (image.directory / "opt/shut").chmod(0o700)
    machine.start()
    Possessor(machine, "cwd", "nobody", place="/opt/shut", cgroup="shut")
    Possessor(machine, "jail", "nobody", cgroup="jail")
    Possessor(machine, "cwd", "nobody", cgroup="fine")
    held = {(h["unit"], h["what"]): h for h in of(plan(machine), "cwd", "root")}
    assert held["fine", "cwd"]["action"] == "migrate"
    assert held["shut", "cwd"]["action"] == "stays" and "may not search" in held["shut", "cwd"]["why"]
    assert held["jail", "root"]["action"] == "stays" and "CAP_SYS_CHROOT" in held["jail", "root"]["why"]
    assert held["jail", "cwd"]["action"] == "stays"
    # And so it comes about.
    machine.upgrade("two")
    after = {(h["unit"], h["what"]) for h in of(machine.json("holders"), "cwd", "root")}
    assert after == {("shut", "cwd"), ("jail", "root"), ("jail", "cwd")}, machine.report()


def test_why_it_cannot_be_migrated_or_not_now(writable):
    machine = writable.start()
    for kind in ("traced", "vfork", "zombie"):
        Possessor(machine, kind, cgroup=kind)
    held = [(h["unit"], h["action"], h["why"] or "") for h in of(plan(machine), "cwd")]
    traced = [h for h in held if h[0] == "traced"]
    assert traced[0][1] == "stays" and "is already traced by process" in traced[0][2] and "(possess)" in traced[0][2]
    # The child is there too, and in no call that waits.
    assert sorted(("waits in vfork(2)" in why, action) for unit, action, why in held if unit == "vfork") == [
        (False, "migrate"), (True, "migrate")]
    assert not [h for h in held if h[0] == "zombie"]


def test_older_generations_are_told_until_the_last_holder_is_gone(writable):
    machine = writable.start()
    kinds = ("read", "map-private", "accepted")
    holders = {kind: Possessor(machine, kind, cgroup=kind) for kind in kinds}
    machine.upgrade("two")
    listed = machine.json("holders")["holders"]
    for kind in kinds:
        held = [h for h in listed if h["unit"] == kind and h["what"] == FOUND[kind][0] and h["path"] == FOUND[kind][2]]
        assert [h["generation"] for h in held] == [1], (kind, listed)
    for kind in kinds:
        assert "generation 1 is released" not in machine.log()
        holders[kind].end()
        assert {h["unit"] for h in machine.json("holders")["holders"]}.isdisjoint({kind})
    wait_until(lambda: "generation 1 is released" in machine.log(), 20, "the release of generation 1")


def test_what_may_be_of_an_older_generation_is_a_warning(writable):
    machine = writable.start()
    Possessor(machine, "queue", "ring")
    assert machine.json("holders")["warnings"] == []  # there is none
    machine.upgrade("two")
    warnings = machine.json("holders")["warnings"]
    told = r"process \d+ \(possess\) has {} \(fd \d+\): of which generation, the kernel does not tell"
    assert any(re.fullmatch(told.format("1 descriptor that waits in its socket"), text) for text in warnings), warnings
    if rings_have_paths():
        assert any(re.fullmatch(told.format(f"{PLACE} registered with io_uring"), text) for text in warnings), warnings


def test_what_a_private_namespace_leaves_on_an_old_generation(writable):
    """Its root is swapped along; what its programs have mapped by way of the old one is found all the same."""
    machine = writable.start()
    holder = Possessor(machine, "namespace", "map-private")
    assert [h["action"] for h in of(plan(machine), "map")] == ["stays"]
    machine.upgrade("two")
    listed = machine.json("holders")["holders"]
    if rings_have_paths():  # maps name an overlay as such since Linux 6.8
        assert [(h["generation"], h["path"]) for h in of({"holders": listed}, "map")] == [(1, f"{PLACE}/data")], listed
    holder.end()
    wait_until(lambda: "generation 1 is released" in machine.log(), 20, "the release of generation 1")


def test_an_old_socket_alone_keeps_its_generation(writable):
    machine = writable.start()
    holder = Possessor(machine, "listen")
    machine.upgrade("two", "--force")
    held = of(machine.json("holders"), "socket")
    assert [(h["generation"], h["path"]) for h in held] == [(1, f"{PLACE}/stream")]
    holder.end()
    wait_until(lambda: "generation 1 is released" in machine.log(), 20, "the release of generation 1")


def test_many_ask_at_once(machine):
    machine.start()
    asking = [machine.popen("/usr/bin/initctl", "holders") for _ in range(12)]
    ends = [(process.communicate(timeout=30)[0], process.returncode) for process in asking]
    assert {code for _, code in ends} <= {0, 5} and any(code == 0 for _, code in ends), ends
    assert machine.initctl("holders").stdout == "No process holds an older generation.\n"


# ---- skew ----------------------------------------------------------------------------------------


def change_libc(image):
    """Another C library, by its build id; it works as well."""
    libc = f"usr/lib/{platform.machine()}-linux-gnu/libc.so.6"
    data = bytearray(pathlib.Path("/", libc).read_bytes())
    at = data.index(b"GNU\0", data.index(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0")) + 4
    data[at:at + 20] = bytes(20)
    image.write(libc, "", 0o755).write_bytes(data)


def test_the_same_c_library_is_one_line(writable):
    machine = writable.start()
    Possessor(machine, "read")
    document = plan(machine)
    assert [(s["name"], s["same"]) for s in document["skew"]][1:] == [("libc.so.6", True)]
    assert all(s["same"] and s["from"] == s["to"] != "" for s in document["skew"])
    assert "\nThe C library\n  The same in both images.\n" in machine.initctl("plan", "/run/images/two").stdout


def test_another_c_library_names_who_goes_on_with_the_old(writable):
    machine = writable
    change_libc(machine.images["two"])
    for image in machine.images.values():
        for policy in ("keep", "restart"):
            image.service(policy, f"[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy={policy}\n")
        image.conf(services=["keep.service", "restart.service"])
    machine.start()
    machine.wait_state("keep")
    machine.wait_state("restart")
    Possessor(machine, "nobody")
    document = plan(machine)
    libc = document["skew"][1]
    assert libc["name"] == "libc.so.6" and not libc["same"] and libc["to"] == "0" * 40
    warning = next(text for text in document["warnings"] if "the C library changes" in text)
    assert "(sleep of keep.service)" in warning and "(possess of session)" in warning and "restart" not in warning.split(":")[0]
    text = machine.initctl("plan", "/run/images/two").stdout
    section = text[text.index("\nThe C library\n"):]
    assert f"(build id {libc['from'][:8]} -> 00000000)" in section
    assert "  - keep, 1 process: `initctl restart keep` after the upgrade\n" in section
    assert "(possess, of nobody): log out of the session, or end it\n" in section
    assert "  - restart," not in section
