# SPDX-License-Identifier: MIT
"""Where an image may be, and what it may be called: on the running image, below a mount that is moved, in somebody's own
namespace, behind a loop device or a partition already there, by a label, gone or changed since the plan."""
import contextlib
import json
import os
import subprocess
import uuid

import pytest
from image_files import ext4, loops_of, small_tree, squashfs
from machine import Machine, wait_until
from outside import Snapshot, assert_unchanged

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small system: its tree, and images of it."""
    base = tmp_path_factory.mktemp("places")
    small_tree(base / "tree", "three")
    ext4(base / "tree", base / "ext4")
    squashfs(base / "tree", base / "squashfs")
    return base


def put(machine, file, name="image"):
    subprocess.run(["cp", "--sparse=always", str(file), str(machine.share / name)], check=True)
    return machine.share / name, f"/run/share/{name}"


def upgrade(machine, *arguments, verb="upgrade"):
    return machine.initctl(verb, *arguments, check=False)


def refused(machine, *arguments, verb="upgrade", code=3):
    before = Snapshot(machine)
    result = upgrade(machine, *arguments, verb=verb)
    assert result.returncode == code, result.stdout + machine.report()
    assert_unchanged(machine, before)
    return result.stdout.strip().splitlines()[-1]


@contextlib.contextmanager
def looped(file, *options):
    device = subprocess.run(["/sbin/losetup", "--find", "--show", *options, str(file)], check=True, capture_output=True,
                            text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["/sbin/losetup", "-d", device], check=False)


# Directories

def test_directory_on_the_running_image(tmp_path, made):
    """On the same file system as the root that it replaces, and back."""
    with Machine(tmp_path, writable=("one",)) as machine:
        subprocess.run(["cp", "-a", str(made / "tree"), str(machine.images["one"].directory / "opt-new")], check=True)
        machine.start()
        result = upgrade(machine, "/opt-new")
        assert result.returncode == 0 and machine.image() == "three", result.stdout + machine.report()
        assert "is the image that is running" in upgrade(machine, "/").stdout
        assert upgrade(machine, "/run/images/one").returncode == 0, machine.report()
        assert machine.image() == "one"


@pytest.mark.parametrize("place", ("/var/deep/new", "/run/share/new", "/home/new"))
def test_directory_below_a_mount_that_is_moved(machine, made, place):
    machine.start()
    machine.run("mkdir", "-p", place)
    subprocess.run(["cp", "-a", f"{made}/tree/.", str(machine.path(place))], check=True)
    result = upgrade(machine, place)
    assert result.returncode == 0 and machine.image() == "three", result.stdout + machine.report()
    assert machine.run("cat", f"{place}/etc/os-release").stdout == machine.run("cat", "/etc/os-release").stdout


@pytest.mark.parametrize("visible", (True, False))
def test_in_a_namespace_of_its_own(machine, visible):
    """What initctl sees there is not what PID 1 would take."""
    machine.start()
    place = "/new" if visible else "/tmp/only-here/etc"
    before = Snapshot(machine)
    result = machine.run("unshare", "-m", "sh", "-c", "mount --make-rprivate / && mkdir -p /run/own/only-here/etc && "
                         f"mount --bind /run/images/two /new && mount --bind /run/own /tmp && initctl upgrade {place}", check=False)
    assert result.returncode == 3 and "mount namespace of its own" in result.stdout, result.stdout
    assert_unchanged(machine, before)
    # Where both see the same it is the same.
    result = machine.run("unshare", "-m", "initctl", "upgrade", "/run/images/two", check=False)
    assert result.returncode == 0 and machine.image() == "two", result.stdout + machine.report()


# Devices

@pytest.mark.parametrize("options", ((), ("--read-only",)))
def test_file_that_has_a_loop_device_already(machine, made, options):
    """It is somebody's own, and stays."""
    machine.start()
    file, inside = put(machine, made / "squashfs")
    with looped(file, *options) as device:
        assert upgrade(machine, inside).returncode == 0, machine.report()
        assert machine.image() == "three"
        for path in (inside, device, "/"):
            assert "already there" in upgrade(machine, path).stdout
        assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()
        wait_until(lambda: loops_of(file) == [device], what="the end of all loop devices but that")


def test_partition(machine, made):
    machine.start()
    start = 2048
    length = (made / "squashfs").stat().st_size // 512 + 1
    entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + start.to_bytes(4, "little") + length.to_bytes(4, "little")
    disk = machine.share / "disk"
    disk.write_bytes((b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa").ljust(start * 512, b"\0")
                     + (made / "squashfs").read_bytes() + b"\0" * 512)
    with looped(disk, "--partscan") as device:
        # By hand where the kernel does not read such tables.
        subprocess.run(["/usr/bin/addpart", device, "1", str(start), str(length)], check=False, stderr=subprocess.DEVNULL)
        assert "partition table (dos)" in refused(machine, device)
        assert upgrade(machine, f"{device}p1").returncode == 0, machine.report()
        assert machine.image() == "three"
        assert "already there" in upgrade(machine, f"{device}p1").stdout
        assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()


def test_device_that_is_gone(machine, made):
    machine.start()
    file, _ = put(machine, made / "squashfs")
    with looped(file) as device:
        assert upgrade(machine, device, verb="plan").returncode == 0
    wait_until(lambda: not loops_of(file), what="the end of the loop device")
    assert device in refused(machine, device)


def test_by_tag(machine, made):
    machine.start()
    file, _ = put(machine, made / "ext4")
    label, number = f"molt{os.getpid()}", str(uuid.uuid4())
    subprocess.run(["/sbin/tune2fs", "-L", label, "-U", number, str(file)], check=True, stdout=subprocess.DEVNULL)
    assert f"no block device has UUID={number}" in refused(machine, f"UUID={number}")
    with looped(file) as device:
        plan = machine.json("plan", f"LABEL={label}")["plan"]
        assert (plan["device"], plan["image"]) == (device, "device"), plan
        with looped(file):
            assert f"2 block devices have LABEL={label}" in refused(machine, f"LABEL={label}")
        result = upgrade(machine, f"UUID={number}")
        assert result.returncode == 0 and machine.image() == "three", result.stdout + machine.report()
        assert "already there" in upgrade(machine, f"UUID={number}").stdout
        assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()
    # A file of such a name is one.
    assert "No such file" in refused(machine, "./UUID=none")


# Between the plan and the upgrade

def test_file_that_is_another_by_then(machine, made):
    """The plan is of the file as it was; the upgrade looks for itself."""
    machine.start()
    file, inside = put(machine, made / "squashfs")
    assert upgrade(machine, inside, verb="plan").returncode == 0
    put(machine, made / "ext4", "other")
    os.truncate(machine.share / "other", 1 << 20)
    os.rename(machine.share / "other", file)
    assert "cut short" in refused(machine, inside)
    file.unlink()
    assert "No such file" in refused(machine, inside)
    put(machine, made / "ext4", "image")
    assert upgrade(machine, inside).returncode == 0, machine.report()
    # Removed while it runs: it is there as long as somebody holds it.
    held = os.open(file, os.O_RDONLY)
    file.unlink()
    assert machine.image() == "three"
    assert "No such file" in upgrade(machine, inside).stdout
    assert upgrade(machine, "/run/images/two").returncode == 0, machine.report()
    os.close(held)


# What is no argument

def test_arguments_that_make_no_sense(machine):
    machine.start()
    for arguments, word in ((("/a", "/b"), "too many arguments"), ((), "which image?"), (("",), "is empty"),
                            (("/" + "x" * 4096,), "4095 are the most"), (("--", "--"), "No such file")):
        for verb in ("plan", "upgrade"):
            result = upgrade(machine, *arguments, verb=verb)
            wanted = 3 if word == "No such file" else 2
            assert result.returncode == wanted and word in result.stdout, result.stdout


def test_longest_path(machine):
    """Cut in the middle: the reason is what counts."""
    machine.start()
    assert "File name too long" in refused(machine, "/" + "x" * 300)
    reason = refused(machine, "/run/" + "/".join(["d" * 200] * 20) + "/the-end")
    assert reason.startswith("refused: cannot open the image /run/ddd") and "/the-end: No such file" in reason, reason


def test_names_that_are_no_text(machine):
    """One line for a person, with nothing in it that a terminal obeys; JSON that is JSON."""
    machine.start()
    for name in (b"new\nline", b"\xff\xfe garbage", b"\x1b[31mred", b"tab\t", b"\xc3\xa9"):
        path = os.fsdecode(b"/run/share/none-" + name)
        result = upgrade(machine, path)
        last = result.stdout.splitlines()[-1]
        assert result.returncode == 3 and "refused: cannot open the image /run/share/none-" in last and "No such file" in last, result
        assert "\x1b" not in result.stdout and len(result.stdout.splitlines()) == 2, result.stdout
        process = machine.popen("/usr/bin/initctl", "--json", "upgrade", path, text=False, stderr=subprocess.DEVNULL)
        output, _ = process.communicate(timeout=30)
        lines = output.decode("utf-8", "strict").splitlines()
        assert lines and all(json.loads(line) for line in lines)
    assert machine.path("/run/molt/init.log").read_bytes().count(b"\x1b") == 0
