# SPDX-License-Identifier: MIT
"""Images that are devices and files: upgraded to, refused with the reason, and nothing left behind of any."""
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from helpers import down
from image_files import MAKERS, loops_of, small_tree
from machine import BUILD, wait_until
from outside import Snapshot, assert_unchanged
from seam import EVERYWHERE, HOLD, Seam
from test_refuse import all_below, command_line, parent

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two small systems, and what is made of them: (kind, version) -> file."""
    base = tmp_path_factory.mktemp("images")
    made = {}

    def image(kind, version):
        if (kind, version) not in made:
            tree = base / version
            if not tree.exists():
                small_tree(tree, version)
            made[kind, version] = base / f"{version}.{kind}"
            MAKERS[kind](tree, made[kind, version])
        return made[kind, version]

    return image


def put(machine, file, name=None):
    """The image in the machine, as a file of its own: (path outside, path inside)."""
    name = name or file.name
    subprocess.run(["cp", "--sparse=always", str(file), str(machine.share / name)], check=True)
    return machine.share / name, f"/run/share/{name}"


def upgrade(machine, path, *options, verb="upgrade"):
    return machine.initctl(verb, *options, path, check=False, timeout=60)


def refused(machine, path, *options):
    before = Snapshot(machine)
    result = upgrade(machine, path, *options)
    assert result.returncode == 3, result.stdout + machine.report()
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("refused: "), result.stdout
    assert_unchanged(machine, before)
    return last


@pytest.mark.parametrize("kind", MAKERS)
def test_from_file_to_file_and_back(machine, trees, kind):
    """Onto a file, onto the next, then back to a directory: each loop device goes with its image."""
    machine.start()
    (one, inside_one), (two, inside_two) = (put(machine, trees(kind, v)) for v in ("three", "four"))
    assert upgrade(machine, inside_one).returncode == 0, machine.report()
    assert machine.image() == "three" and len(loops_of(one)) == 1
    fields = next(line.split() for line in machine.run("cat", "/proc/self/mountinfo").stdout.splitlines()
                  if line.split()[4] == "/")
    assert fields[5].split(",")[0] == "ro" and kind in fields, fields
    assert upgrade(machine, inside_two).returncode == 0, machine.report()
    assert machine.image() == "four"
    wait_until(lambda: not loops_of(one), what="the end of the first loop device")
    assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()
    wait_until(lambda: not loops_of(one, two), what="the end of both loop devices")


def halved(image, kind):
    path = image(kind, "three")
    return path.read_bytes()[:path.stat().st_size // 2]


def disk_with_partition(*_):
    return b"\0" * 446 + bytes.fromhex("00 20 21 00 83 30 20 00 00 08 00 00 00 10 00 00") + b"\0" * 48 + b"\x55\xaa" + b"\0" * (4 << 20)


NO_IMAGES = {
    "empty": (lambda *_: b"", "is empty"),
    "letters": (lambda *_: b"x" * (1 << 20), "no file system that could be recognised"),
    "partitions": (disk_with_partition, "partition table (dos)"),
    "encrypted": (lambda *_: b"LUKS\xba\xbe\0\x01".ljust(4096, b"\0") * 1024, "crypto_LUKS"),
} | {f"half of {kind}": (lambda image, kind=kind: halved(image, kind), "cut short") for kind in MAKERS}


@pytest.mark.parametrize("what", NO_IMAGES)
def test_files_that_are_no_image(machine, trees, what):
    content, word = NO_IMAGES[what]
    machine.start()
    (machine.share / "image").write_bytes(content(trees))
    reason = refused(machine, "/run/share/image")
    assert word in reason and "/run/share/image" in reason, reason
    assert not loops_of(machine.share / "image")


def test_paths_that_are_no_image(machine):
    machine.start()
    machine.run("mkfifo", "/run/fifo")
    for path, word in (("/run/none", "No such file"), ("/run/fifo", "not a directory, a block device or a file"),
                       ("/dev/null", "not a directory, a block device or a file"),
                       ("/run/control-not/x", "No such file")):
        reason = refused(machine, path)
        assert word in reason, reason


def test_options_that_do_not_fit(machine, trees):
    _, file = put(machine.start(), trees("ext4", "three"))
    hashes = "0" * 64
    for options, path, word in (
            (("--mount-options=nosuch=1",), file, "no such mount options"),
            (("--mount-options=ro",), "/run/images/two", "--read-only works"),
            (("--verity-hash=/run/x", f"--root-hash={hashes}"), "/run/images/two", "directory"),
            (("--verity-hash=/run/x",), file, "needs both"),
            ((f"--root-hash={hashes}",), file, "needs both"),
            (("--verity-hash=/run/x", "--root-hash=beef!"), file, "neither a hash"),
            (("--verity-hash=/run/x,y", f"--root-hash={hashes}"), file, "without commas")):
        reason = refused(machine, path, *options)
        assert word in reason, reason
    assert not loops_of(machine.share / "three.ext4")


@pytest.mark.parametrize("name", ("with space", "with\nnewline", "comma,", 'quo"te', "-dash", "ünï", "%s"))
def test_names_of_files(machine, trees, name):
    machine.start()
    file, inside = put(machine, trees("squashfs", "three"), name)
    assert upgrade(machine, inside).returncode == 0, machine.report()
    assert machine.image() == "three" and loops_of(file)


def test_plan_touches_nothing(machine, trees):
    """It says what it found, and neither the file nor a loop device shows that it looked."""
    machine.start()
    file, inside = put(machine, trees("ext4", "three"))
    before, content = Snapshot(machine), file.read_bytes()
    for options, mode in (((), "ro"), (("--mount-options=rw",), "rw")):
        plan = machine.json("plan", *options, inside)["plan"]
        assert (plan["image"], plan["fstype"], plan["mode"], plan["to"]) == ("file", "ext4", mode, "Image three"), plan
        assert plan["device"].startswith("/dev/loop")
        said = machine.initctl("plan", *options, inside).stdout
        assert "ext4 file, " + ("read-only" if mode == "ro" else "to be written to") + ", on /dev/loop" in said, said
    wait_until(lambda: not loops_of(file), what="the end of the loop device")
    assert_unchanged(machine, before)
    assert file.read_bytes() == content


def test_written_to_where_that_is_asked_for(machine, trees):
    machine.images["one"].conf(Upgrade={"MountOptions": "rw,noatime"})
    machine.start()
    file, inside = put(machine, trees("ext4", "three"))
    assert upgrade(machine, inside).returncode == 0, machine.report()
    machine.run("touch", "/written")
    assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()
    # Mounted for writing it is as long as somebody holds it; then it can be mounted otherwise.
    wait_until(lambda: not loops_of(file), what="the end of the loop device")
    assert upgrade(machine, inside, "--read-only").returncode == 0, machine.report()
    machine.run("ls", "/written")
    assert machine.run("touch", "/more", check=False).returncode != 0


@pytest.mark.parametrize("after", [{"RollbackWindowSec": "1h"}, {"AutoCommit": "no"}], ids=["committed", "not committed"])
def test_a_shutdown_lets_go_of_the_other_generation(machine, trees, after):
    """It is attached still, and PID 1 holds it: its disk is let go of before the system ends, not by that."""
    seam = Seam(machine)
    machine.images["two"].conf(Upgrade=after)
    machine.start()
    file, inside = put(machine, trees("ext4", "three"))
    assert upgrade(machine, inside).returncode == 0, machine.report()
    assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()
    assert loops_of(file)
    seam.arm(HOLD, 1, place=("reboot", EVERYWHERE))
    down(machine)
    seam.wait_held(20)
    left = loops_of(file)
    seam.release()
    assert machine.process.wait(20) == 128 + signal.SIGINT
    assert not left


def test_the_running_image_by_its_file(machine, trees):
    machine.start()
    file, inside = put(machine, trees("squashfs", "three"))
    assert upgrade(machine, inside).returncode == 0, machine.report()
    for path in (inside, loops_of(file)[0], "/"):
        before = Snapshot(machine)
        assert "is the image that is running" in upgrade(machine, path).stdout
        assert_unchanged(machine, before)


def test_child_that_is_killed_leaves_no_loop_device(machine, trees, tmp_path):
    """The init of the image does not answer, and the judging child is killed while it waits."""
    tree = small_tree(tmp_path / "hangs", "hangs")
    shutil.copy2(BUILD / "tools/badinit", tree / "usr/sbin/init")
    (tree / "etc/badinit").write_text("hang")
    MAKERS["squashfs"](tree, machine.share / "hangs")
    machine.start()
    before = Snapshot(machine)
    client = machine.popen("/usr/bin/initctl", "upgrade", "/run/share/hangs")
    wait_until(lambda: loops_of(machine.share / "hangs"), what="the loop device")
    asked = wait_until(lambda: [pid for pid in all_below(machine.pid) if "--check-state" in command_line(pid)],
                       what="the question to the image's init")
    os.kill(parent(pathlib.Path(f"/proc/{asked[0]}")), signal.SIGKILL)
    output, _ = client.communicate(timeout=30)
    assert client.returncode == 3 and "ended without an answer" in output, output
    wait_until(lambda: not loops_of(machine.share / "hangs"), what="the end of the loop device")
    assert_unchanged(machine, before)


FUSE = """import ctypes, os, sys, time
fd = os.open("/dev/fuse", os.O_RDWR)
place, mode = sys.argv[1:]
if mode == "40000":
    os.makedirs(place)
options = f"fd={fd},rootmode={mode},user_id=0,group_id=0"
assert ctypes.CDLL(None, use_errno=True).mount(b"x", place.encode(), b"fuse.x", 0, options.encode()) == 0
print("mounted", flush=True)
time.sleep(1000)
"""


def test_image_on_fuse(machine):
    """Its daemon never answers, and nobody waits for it."""
    machine.start()
    mount_fuse(machine, "/run/fuse", "40000")
    reason = refused(machine, "/run/fuse")
    assert "FUSE mount at /run/fuse" in reason, reason


def test_image_on_a_loop_device_on_fuse(machine, trees, tmp_path):
    """However deep: a directory, a file and a device whose blocks only that daemon has."""
    below, _ = put(machine, trees("ext4", "three"), "below")
    device = subprocess.run(["/sbin/losetup", "--find", "--show", str(below)], check=True, capture_output=True,
                            text=True).stdout.strip()
    try:
        machine.start()
        machine.run("mount", device, "/mnt")
        machine.run("cp", "/mnt/etc/os-release", "/mnt/file")
        # Its path as the kernel tells it is the one that the machine has it by.
        backing = pathlib.Path(f"/sys/block/{pathlib.Path(device).name}/loop/backing_file").read_text().strip()
        machine.run("sh", "-c", f"mkdir -p {pathlib.Path(backing).parent} && : > {backing}")
        mount_fuse(machine, backing, "100000")
        for path in ("/mnt", "/mnt/home", "/mnt/file", device):
            reason = refused(machine, path)
            assert f"FUSE mount at {backing}" in reason and path in reason, reason
    finally:
        machine.stop()
        subprocess.run(["/sbin/losetup", "-d", device], check=False)


def mount_fuse(machine, place, mode):
    (machine.share / "fuse.py").write_text(FUSE)
    server = machine.popen("python3", "/run/share/fuse.py", place, mode, cgroup="fuse")
    assert server.stdout.readline() == "mounted\n"


def test_restrictions_of_the_mount_are_not_those_of_the_root(machine):
    machine.start()
    machine.run("mount", "-o", "remount,bind,nosuid,nodev,noexec", "/run/images/two")
    result = upgrade(machine, "/run/images/two")
    assert result.returncode == 0 and "nosuid nodev noexec: as the root it will be without" in result.stdout
    root = next(line.split() for line in machine.run("cat", "/proc/self/mountinfo").stdout.splitlines()
                if line.split()[4] == "/")
    assert not {"nosuid", "nodev", "noexec"} & set(root[5].split(",")), root


def test_file_on_the_running_image(machine, trees):
    """It keeps that image in use: allowed, and said."""
    machine.images["one"].copy(trees("squashfs", "three"), "opt/image")
    machine.start()
    result = upgrade(machine, "/opt/image")
    assert result.returncode == 0 and "that image stays in use" in result.stdout, result.stdout
    assert machine.image() == "three"


def test_dm_verity_that_cannot_be(machine, trees):
    """Each thing that is missing is named, before anything is set up. (With all of them: test_qemu_images.py.)"""
    machine.start()
    file, inside = put(machine, trees("squashfs", "three"))
    (machine.share / "hashes").write_bytes(b"x" * 8192)
    (machine.share / "empty").touch()
    hashes, none = "--verity-hash=/run/share/hashes", "0" * 64
    for options, words in (
            (("--verity-hash=/run/share/none", f"--root-hash={none}"), ("the device with the hashes", "No such file")),
            (("--verity-hash=/run/share/empty", f"--root-hash={none}"), ("the device with the hashes", "is empty")),
            (("--verity-hash=/dev/null", f"--root-hash={none}"), ("the device with the hashes", "neither a file nor a block")),
            ((hashes, "--root-hash=/run/share/none"), ("the file with the root hash", "No such file")),
            ((hashes, f"--root-hash={none}", "--root-hash-sig=/run/share/empty"), ("the signature", "is empty")),
            # No hashes at all, or no dm-verity in this kernel.
            ((hashes, f"--root-hash={none}"), ("with dm-verity",))):
        reason = refused(machine, inside, *options)
        assert all(word in reason for word in words) and inside in reason, reason
    # What libmount loads it by is there and is none.
    machine.run("sh", "-c", "for f in /usr/lib/*/libcryptsetup.so.12; do [ ! -e $f ] || mount --bind /dev/null $f; done")
    reason = refused(machine, inside, hashes, f"--root-hash={none}")
    assert "has no libcryptsetup.so.12, which libmount needs for dm-verity" in reason, reason
    assert not loops_of(file, machine.share / "hashes")
