# SPDX-License-Identifier: MIT
"""Roots of special kinds that run: subvolumes of btrfs, an overlay over squashfs. What is held of them is found and
migrated like that of any other, though the numbers of their file systems differ by whom one asks."""
import shutil
import subprocess

import pytest
from helpers import wait_log
from image_files import btrfs, small_tree
from machine import Machine, wait_until
from outside import Snapshot, assert_unchanged, last_word, stragglers
from test_holders import TOOL, Possessor, bring_tool
from test_migrate import PLACE, Holder
from test_namespaces import Shell, ns_of

pytestmark = pytest.mark.timeout(120)


def tree(directory, version):
    made = small_tree(directory, version)
    (made / PLACE.lstrip("/")).mkdir(parents=True)
    for n in range(20):
        (made / PLACE.lstrip("/") / f"file-{n}").write_text(f"of image {version}\n")
    (made / PLACE.lstrip("/") / "data").write_text("x" * 8192)
    return made


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    base = tmp_path_factory.mktemp("roots")
    return {version: tree(base / version, version) for version in ("three", "four")}


@pytest.fixture
def machine(tmp_path):
    with Machine(tmp_path, shared=True) as made:
        made.shells = []
        yield made


def subvolumes(machine, trees):
    """A disk with both as subvolumes, at /run/disk."""
    with open(machine.share / "disk", "wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["/sbin/mkfs.btrfs", "-q", str(machine.share / "disk")], check=True)
    for version, made in trees.items():
        shutil.copytree(made, machine.share / version, symlinks=True)
    machine.start()
    machine.run("sh", "-ec", "mkdir /run/disk; mount -o loop,noatime /run/share/disk /run/disk; cd /run/disk; "
                "for v in three four data; do btrfs subvolume create $v; done; "
                "for v in three four; do cp -a /run/share/$v/. $v/; done")


def overlay(machine, trees):
    """Both as squashfs with an overlay each, at /run/disk/VERSION."""
    for version, made in trees.items():  # not compressed: that takes its time
        subprocess.run(["mksquashfs", str(made), str(machine.share / f"{version}.squashfs"), "-quiet", "-no-progress", "-noI",
                        "-noD", "-noF", "-noX"], check=True, stdout=subprocess.DEVNULL)
    machine.start()
    machine.run("sh", "-ec", "mkdir /run/disk; for v in three four; do cd /run/disk; mkdir $v $v.low $v.top; "
                "mount -o loop /run/share/$v.squashfs $v.low; mount -t tmpfs tmpfs $v.top; mkdir $v.top/upper $v.top/work; "
                "mount -t overlay overlay -o lowerdir=$v.low,upperdir=$v.top/upper,workdir=$v.top/work $v; done")


@pytest.mark.parametrize("kind", [subvolumes, overlay])
def test_runs_and_is_left(machine, trees, kind):
    """From one to the other and back, with processes and namespaces that stand on it; then a rollback, and away."""
    kind(machine, trees)
    assert machine.upgrade("../disk/four")[0] == 0
    assert machine.image() == "four"
    holders = [Holder(machine, subject) for subject in ("cwd", "fds", "jail")]
    shells = [Shell(machine, "fds", "-m", "--propagation", "slave")]
    for version in ("three", "four"):
        plan = machine.json("plan", f"/run/disk/{version}")
        assert [n["action"] for n in plan["namespaces"]] == ["swap"], plan["namespaces"]
        found = {(h["comm"], h["what"]) for h in plan["holders"] if h["action"] == "migrate" and h["path"] == PLACE}
        # What stands in the other namespace as well.
        assert {("holder", "cwd"), ("holder", "dirfd")} <= found, plan["holders"]
        inside = {h["pid"] for h in plan["holders"] if h["what"] == "mntns"}
        assert inside & {h["pid"] for h in plan["holders"] if h["what"] in ("cwd", "dirfd")}, plan["holders"]
        code, told = machine.upgrade(f"../disk/{version}")
        assert (code, last_word(told)) == (0, "committed")
        assert machine.image() == version and shells[0].release() == version
        others = [pid for pid in machine.pids() if ns_of(pid) == ns_of(machine.pid)]
        assert stragglers(machine, others, fds=True) == [], machine.report()
    before = Snapshot(machine)
    result = machine.initctl("upgrade", "/run/disk/four")
    assert "already there" in result.stdout
    assert_unchanged(machine, before)
    assert machine.initctl("upgrade", "--no-auto-commit", "/run/disk/three").returncode == 0
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.image() == shells[0].release() == "four"
    assert [h.verdict() for h in holders + shells] == ["ok"] * 4, machine.report()
    assert machine.upgrade("one")[0] == 0
    wait_log(machine, "generation 4 is released", 15)


# What is found of each kind; the last ones forbid the upgrade.
HELD = {"read": ("file", "r", "stays"), "map-private": ("map", None, "stays"), "write": ("file", "rw", "blocks"),
        "map-shared": ("map", "rw", "blocks"), "listen": ("socket", None, "blocks")}


@pytest.mark.parametrize("kind", [subvolumes, overlay])
def test_holders_are_found(machine, trees, kind):
    kind(machine, trees)
    assert machine.upgrade("../disk/three")[0] == 0
    for thing, (what, mode, action) in HELD.items():
        owner = Possessor(machine, thing, cgroup="owner")
        plan = machine.json("plan", "/run/disk/four", check=False)
        mine = [(h["mode"], h["action"]) for h in plan["holders"] if h["what"] == what and h["comm"] == "possess"
                and PLACE in h["path"]]
        assert mine == [(mode, action)], (thing, plan["holders"])
        owner.end()
    bring_tool(machine)
    watcher = machine.popen(TOOL, PLACE, "watch", cgroup="owner", stdin=subprocess.PIPE)
    assert watcher.stdout.readline() == "ready\n"
    plan = machine.json("plan", "/run/disk/four")
    found = [h["path"] for h in plan["holders"] if h["what"] == "watch"]
    assert found == [PLACE] or kind is overlay, plan["holders"]  # which has no handles to find paths by
    watcher.communicate(timeout=10)
    assert machine.upgrade("../disk/four")[0] == 0


def test_other_subvolumes_are_not_the_image(machine, trees):
    """A subvolume mounted beside the image moves and stays as it is: neither is it a part of the image, nor a holder. A
    directory of the image is."""
    subvolumes(machine, trees)
    assert machine.upgrade("../disk/three")[0] == 0
    machine.run("sh", "-ec", f"mount -o subvol=data /run/share/disk /mnt 2>/dev/null || mount --bind /run/disk/data /mnt; "
                f"mount --bind {PLACE} /new; touch /mnt/kept")
    mounts = [(h["path"], h["part"]) for h in machine.json("plan", "/run/disk/four")["holders"] if h["what"] == "mount"]
    assert mounts == [("/new", PLACE)]
    assert machine.upgrade("../disk/four")[0] == 0
    assert machine.run("ls", "/mnt").stdout == "kept\n"
    assert machine.run("cat", "/new/file-0").stdout == "of image three\n"
    mounts = [(h["path"], h["part"]) for h in machine.json("holders")["holders"] if h["what"] == "mount"]
    assert mounts == [("/new", PLACE)]
    machine.run("umount", "/new")
    wait_log(machine, "generation 2 is released", 15)


def test_read_only_subvolume(machine, trees):
    """On a mount that can be written to it is read-only all the same: what is carried is mounted over it, and its root is
    a read-only mount as it is after a boot."""
    carry = {"Carry": "/etc/kept", "CarryDirectory": "/run/state/carry"}
    machine.images["one"].conf(Upgrade=carry)
    machine.images["one"].write("etc/kept", "of one\n")
    subvolumes(machine, trees)
    lines = "\n".join(f"{key}={value}" for key, value in carry.items())
    machine.run("sh", "-ec", f"mkdir /run/state; for v in three four; do cd /run/disk/$v; echo of the image >etc/kept; "
                f"printf '\\n[Upgrade]\\n{lines}\\n' >>etc/molt/init.conf; btrfs property set -ts . ro true; done")
    for version in ("three", "four"):
        assert machine.upgrade(f"../disk/{version}")[0] == 0
        assert machine.run("cat", "/etc/kept").stdout == "of one\n"
        mounts = [line.split() for line in machine.path("/proc/1/mountinfo").read_text().splitlines()]
        assert [m[5].split(",")[0] for m in mounts if m[4] == "/"] == ["ro"]


def test_the_running_btrfs_by_its_file(machine, trees):
    btrfs(trees["three"], machine.share / "image")
    machine.start()
    assert machine.initctl("upgrade", "/run/share/image").returncode == 0
    before = Snapshot(machine)
    assert "is the image that is running" in machine.initctl("upgrade", "/run/share/image").stdout
    assert_unchanged(machine, before)


@pytest.mark.parametrize("kind", ["btrfs", "overlay"])
def test_carried_from_such_a_state_directory(tmp_path, kind):
    """Files of a state directory on btrfs or an overlay are mounted over those of a read-only image, and stay with it."""
    with Machine(tmp_path) as machine:
        for image in machine.images.values():
            image.conf(Upgrade={"Carry": "/etc/kept", "CarryDirectory": "/run/state/carry"})
            image.write("etc/kept", f"of {image.version}\n")
        with open(machine.share / "disk", "wb") as file:
            file.truncate(200 << 20)
        subprocess.run(["/sbin/mkfs.btrfs", "-q", str(machine.share / "disk")], check=True)
        machine.start()
        made = {"btrfs": "mount -o loop /run/share/disk /run/disk; btrfs subvolume create /run/disk/v; mount --bind /run/disk/v /run/state",
                "overlay": "mkdir /run/disk/l /run/disk/u /run/disk/w; mount -t overlay overlay -o lowerdir=/run/disk/l,upperdir=/run/disk/u,workdir=/run/disk/w /run/state"}
        machine.run("sh", "-ec", f"mkdir /run/disk /run/state; {made[kind]}")
        for image in ("two", "one", "two"):
            assert machine.upgrade(image)[0] == 0
            assert machine.run("cat", "/etc/kept").stdout == "of one\n"
            points = [line.split()[4] for line in machine.path("/proc/1/mountinfo").read_text().splitlines()]
            assert points.count("/etc/kept") == 1, points
        plan = machine.json("plan", "/run/images/one")
        assert [m["action"] for m in plan["mounts"] if m["path"] == "/etc/kept"] == ["leave"]
        wait_until(lambda: "generation 1 is released" in machine.log(), 15, "the release")
