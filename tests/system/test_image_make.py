# SPDX-License-Identifier: MIT
"""molt-image make and verify: what an image is made of, of whatever tree."""
import contextlib
import os
import shutil
import subprocess

import pytest
from image_store import TOOL, Disk, small_disk

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    for directory in ("usr/sbin", "usr/bin", "usr/lib/modules/6.1", "etc/ssh", "etc/molt", "run", "var/lib/systemd"):
        (tree / directory).mkdir(parents=True)
    for link in ("sbin", "bin", "lib"):
        (tree / link).symlink_to(f"usr/{link}")
    for program in ("usr/sbin/molt", "usr/bin/initctl"):
        shutil.copy("/bin/true", tree / program)
    (tree / "usr/sbin/init").symlink_to("/sbin/molt")  # a link that means the tree's root
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    for name, text in {"usr/lib/os-release": "ID=x\n", "usr/lib/modules/6.1/modules.dep": "", "etc/machine-id": "abc\n",
                       "etc/ssh/ssh_host_rsa_key": "secret", "etc/ssh/ssh_host_rsa_key.pub": "public",
                       "run/left": "over", "var/lib/systemd/random-seed": "seed", "etc/fstab": "LABEL=x /srv/data ext4\n",
                       "etc/molt/init.conf": "[Upgrade]\nCarry=/etc/machine-id /etc/ssh/ssh_host_*_key\n"}.items():
        (tree / name).write_text(text)
    return tree


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw, effective


@pytest.fixture
def odd(tree, tmp_path):
    """All that a tree may have in it, and links that lead to this machine's own directories if one follows them."""
    outside = tmp_path / "outside"
    for directory in ("state/tmp", "state/log/journal", "state/lib/systemd"):
        (outside / directory).mkdir(parents=True)
    for file in ("state/tmp/mine", "state/lib/systemd/random-seed"):
        (outside / file).write_text("of this machine")
    (tree / "etc/os-release").unlink()
    (tree / "usr/lib/os-release").unlink()
    shutil.rmtree(tree / "var")
    (tree / "var").symlink_to(outside / "state")
    (tree / "etc/fstab").write_text("LABEL=x /srv/two\\040words ext4\n")
    at = tree / "usr/odd"
    at.mkdir()
    for name in ("a space", "a\nnew line", "-n", "*", "\\040", "\u00fc", "x" * 250):
        (at / name).write_text(name)
    with (at / "sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    os.link(at / "a space", at / "linked")
    os.mknod(at / "null", 0o20666, os.makedev(1, 3))
    os.mkfifo(at / "fifo", 0o600)
    os.chown(at / "-n", 1234, 5678)
    (at / "-n").chmod(0o4755)
    (at / "dangling").symlink_to("nowhere at all")
    os.setxattr(at / "*", "user.note", b"of a user")
    os.setxattr(at / "\\040", "security.capability", CAPABILITY)
    return tree


def assert_is_odd(root, tree):
    at = root / "usr/odd"
    assert sorted(p.name for p in at.iterdir()) == sorted(p.name for p in (tree / "usr/odd").iterdir())
    for name in ("a space", "a\nnew line", "-n", "*", "\\040", "\u00fc", "x" * 250):
        assert (at / name).read_text() == name
    assert (at / "sparse").read_bytes() == bytes(8 << 20) + b"end"
    assert (at / "a space").stat().st_ino == (at / "linked").stat().st_ino and (at / "linked").stat().st_nlink == 2
    assert (at / "null").is_char_device() and (at / "null").stat().st_rdev == os.makedev(1, 3) and (at / "fifo").is_fifo()
    status = (at / "-n").stat()
    assert (status.st_uid, status.st_gid, status.st_mode) == (1234, 5678, 0o104755)
    assert os.readlink(at / "dangling") == "nowhere at all"
    assert os.getxattr(at / "*", "user.note") == b"of a user"
    assert os.getxattr(at / "\\040", "security.capability") == CAPABILITY
    assert (root / "srv/two words").is_dir()
    assert (root / "etc/os-release").read_text() == "ID=linux\nIMAGE_VERSION=7\n"


def make(tree, out, *more, code=0, version="7", **environment):
    ran = subprocess.run([TOOL, "make", "--root", tree, "--version", version, "--out", out, *more], text=True,
                         capture_output=True, env={"PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"} | environment)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def assert_is_image(root):
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/ssh/ssh_host_rsa_key").read_bytes() == b"", "a file that Carry= brings has its place"
    assert not (root / "etc/ssh/ssh_host_rsa_key.pub").exists() and not (root / "var/lib/systemd/random-seed").exists()
    assert not list((root / "run").iterdir())
    for place in ("proc", "sys", "dev", "tmp", "var", "home", "srv/data"):
        assert (root / place).is_dir()
    assert (root / "usr/lib/os-release").read_text() == "ID=x\nIMAGE_VERSION=7\n"


@pytest.mark.parametrize("kind", ["squashfs", "erofs", "ext4"])
def test_make_and_verify(tree, tmp_path, kind):
    """Nothing of the machine is in it, the tree is as it was, and one bit that flips is found."""
    store = tmp_path / "store"
    for directory in (store, tmp_path / "again", tmp_path / "at"):
        directory.mkdir()
    make(tree, store / f"7.{kind}", "--verity", SOURCE_DATE_EPOCH="1700000000")
    assert (tree / "etc/machine-id").read_text() == "abc\n" and (tree / "run/left").exists()
    assert sorted(p.name for p in store.iterdir()) == [f"7.{kind}{s}" for s in ("", ".roothash", ".sha256", ".verity")]
    if kind != "ext4":
        make(tree, tmp_path / f"again/7.{kind}", SOURCE_DATE_EPOCH="1700000000")
        assert (tmp_path / f"again/7.{kind}").read_bytes() == (store / f"7.{kind}").read_bytes()
    subprocess.run(["mount", "-o", "ro,loop", store / f"7.{kind}", tmp_path / "at"], check=True)
    try:
        assert_is_image(tmp_path / "at")
    finally:
        subprocess.run(["umount", tmp_path / "at"], check=True)
    verify = [TOOL, "verify", "7"]
    assert subprocess.run(verify, env=os.environ | {"MOLT_STORE": str(store)}).returncode == 0
    data = bytearray((store / f"7.{kind}").read_bytes())
    data[-100] ^= 1
    (store / f"7.{kind}").write_bytes(data)
    assert subprocess.run(verify, env=os.environ | {"MOLT_STORE": str(store)}, capture_output=True).returncode == 1


@contextlib.contextmanager
def btrfs(path):
    disk = path.with_name("disk")
    path.mkdir()
    with disk.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("kind", ["squashfs", "erofs", "ext4", "btrfs"])
def test_whatever_is_in_the_tree(odd, tmp_path, kind):
    """Names, holes, attributes, capabilities, links and devices come along; no os-release is no obstacle; and links of
    the tree that lead out of it lead to nothing of this machine."""
    at = tmp_path / "at"
    if kind == "btrfs":
        with btrfs(at):
            make(odd, at / "7", "--format", "btrfs")
            assert_is_odd(at / "7", odd)
    else:
        at.mkdir()
        make(odd, tmp_path / "7", f"--format={kind}")
        subprocess.run(["mount", "-o", "ro,loop", tmp_path / "7", at], check=True)
        try:
            assert_is_odd(at, odd)
        finally:
            subprocess.run(["umount", at], check=True)
    for file in ("state/tmp/mine", "state/lib/systemd/random-seed"):
        assert (tmp_path / "outside" / file).read_text() == "of this machine"


def test_make_a_subvolume(tree, tmp_path):
    with btrfs(tmp_path / "at") as at:
        make(tree, at / "7", "--format=btrfs")
        make(tree, at / "8", "--format=btrfs", version="8")
        assert_is_image(at / "7")
        with pytest.raises(OSError):
            (at / "7/written").touch()
        assert sorted(p.name for p in at.iterdir()) == ["7", "8"]
        (tmp_path / "os-release").write_text("IMAGE_VERSION=8\n")
        environment = os.environ | {"MOLT_STORE": str(at), "MOLT_OS_RELEASE": str(tmp_path / "os-release"),
                                    "MOLT_CONTROL": "/nonexistent"}
        for words in (("verify", "7"), ("default", "8"), ("remove", "7")):
            subprocess.run([TOOL, *words], check=True, env=environment)
        assert sorted(p.name for p in at.iterdir()) == [".lock", "8", "boot"]


def test_kernel_is_kept_where_nothing_is_mounted(tree, tmp_path):
    """The one that a link names or the latest, with its own initramfs; and it is what a boot entry gets."""
    with btrfs(tmp_path / "at") as at:
        (tree / "boot").mkdir()
        for version in ("6.1.0-9", "6.1.0-10"):
            (tree / f"boot/vmlinuz-{version}").write_text(f"kernel {version}\n")
            (tree / f"boot/initrd.img-{version}").write_text(f"initrd {version}\n")
        make(tree, at / "7", "--format=btrfs")
        (tree / "vmlinuz").symlink_to("boot/vmlinuz-6.1.0-9")
        make(tree, at / "8", "--format=btrfs", version="8")
        for image, version in (("7", "6.1.0-10"), ("8", "6.1.0-9")):
            kept = at / image / "usr/lib/molt/boot"
            assert (kept / "linux").read_text() == f"kernel {version}\n"
            assert (kept / "initrd").read_text() == f"initrd {version}\n"
            assert (kept / "linux").stat().st_nlink == 2, "it takes no room"
        disk = Disk(tmp_path / "d", "extlinux")
        shutil.copytree(at / "8", disk.store / "8", symlinks=True)
        shutil.rmtree(disk.store / "8/boot")
        disk.commit("8")
        assert (disk.boot / "molt-8/initrd").read_text() == "initrd 6.1.0-9\n"


@pytest.mark.parametrize("kind", ["erofs", "btrfs"])
def test_killed_at_each_step(tree, tmp_path, kind):
    """What is not finished is no version of the store; and the next one to tidy up there takes it away."""
    with btrfs(tmp_path / "at") as at:
        disk = Disk(tmp_path / "d", programs=("btrfs", "mkfs.erofs", "find", "touch"))
        disk.store.rmdir()
        disk.store.symlink_to(at)
        disk.add("1")
        disk.commit("1")
        name = "7" if kind == "btrfs" else "7.erofs"
        words = [TOOL, "make", "--root", tree, "--version=7", f"--out={at}/{name}", f"--format={kind}"]
        for step in range(1, 100, 2):
            if not disk.killed_at(step, words):
                break
            listed = disk.tool("list").splitlines()
            if len(listed) == 2:
                assert "7" in listed[1]
                disk.tool("verify", "7")
            else:
                assert listed == ["1 running default 2-tries"] and not (at / name).exists()
            disk.tool("collect")
            if len(listed) == 2:
                disk.tool("remove", "7")
            left = sorted(p.name for p in at.iterdir() if p.name != "7.erofs.sha256")  # of no image: the next one's
            assert left == [".lock", "1", "boot"], step
        assert step > 5
        disk.tool("verify", "7")


def test_brought_from_elsewhere(tree, tmp_path):
    """A file that is copied into the store is a version when it is whole; one that is not as it was made never is."""
    disk = Disk(tmp_path / "d")
    disk.add("1")
    disk.commit("1")
    sent = tmp_path / "7.erofs"
    make(tree, sent)
    words = [TOOL, "add", sent]
    for step in range(1, 60):
        if not disk.killed_at(step, words):
            break
        if (disk.store / "7.erofs").exists():
            assert (disk.store / "7.erofs").read_bytes() == sent.read_bytes()
            disk.tool("remove", "7")
        assert len(disk.tool("list").splitlines()) == 1
        disk.tool("collect")
        assert not list(disk.store.glob(".molt-image.*"))
    assert step > 5
    disk.tool("verify", "7")
    assert "is there already" in disk.tool("add", str(sent), code=1)
    disk.tool("remove", "7")
    with sent.open("r+b") as file:
        file.truncate(4096)
    assert "its sum differs" in disk.tool("add", str(sent), code=1)
    assert [p.name for p in disk.store.iterdir() if "7" in p.name or "molt-image" in p.name] == []


def test_received(tree, tmp_path):
    """A subvolume that is sent is a version when it is whole."""
    with btrfs(tmp_path / "at") as at:
        for directory in ("from", "store"):
            (at / directory).mkdir()
        make(tree, at / "from/7", "--format=btrfs")
        sent = subprocess.run(["btrfs", "-q", "send", at / "from/7"], check=True, capture_output=True).stdout
        environment = os.environ | {"MOLT_STORE": str(at / "store")}
        half = subprocess.run([TOOL, "receive"], input=sent[:-100], env=environment, capture_output=True)
        assert half.returncode == 1 and not list((at / "store").iterdir())
        for code in (0, 1):
            ran = subprocess.run([TOOL, "receive"], input=sent, env=environment, capture_output=True)
            assert ran.returncode == code, ran.stderr
        assert [p.name for p in (at / "store").iterdir()] == ["7"]
        assert_is_image(at / "store/7")
        with pytest.raises(OSError):
            (at / "store/7/written").touch()
        subprocess.run([TOOL, "verify", "7"], check=True, env=environment)


def test_somebody_at_work_is_left_alone(tree, tmp_path):
    """Tidying up does not take away what an image is being made in."""
    disk = Disk(tmp_path / "d")
    disk.add("1")
    disk.commit("1")
    os.mkfifo(tmp_path / "gate")
    (disk.path / "bin/mkfs.erofs").write_text(f"#!/bin/sh\ncat {tmp_path}/gate\nexec /usr/bin/mkfs.erofs \"$@\"\n")
    (disk.path / "bin/mkfs.erofs").chmod(0o755)
    making = subprocess.Popen([TOOL, "make", "--root", tree, "--version=7", "--out", disk.store / "7.erofs"],
                              env=disk.environment, stdout=subprocess.DEVNULL)
    with (tmp_path / "gate").open("w"):  # it is there, and waits
        disk.tool("collect")
        assert list(disk.store.glob(".molt-image.*"))
    assert making.wait(60) == 0
    assert disk.tool("list").splitlines()[1] == "7"


def test_disk_that_is_full(tree, tmp_path):
    """Said, and nothing is left of it."""
    with small_disk(tmp_path / "store", "1m") as leave:
        for pages in (0, 2, 9, 20, 28):
            leave(pages)
            assert "molt-image: cannot " in make(tree, tmp_path / "store/7.erofs", code=1)
            assert [p.name for p in (tmp_path / "store").iterdir()] == ["filler"]
        leave(250)
        make(tree, tmp_path / "store/7.erofs")


@pytest.mark.parametrize("words, said", [
    (["--frob"], 'make has no "--frob"'), (["--root"], "--root wants a value"), (["--version=a b"], '"a b" is no version'),
    (["--version=x.erofs"], '"x.erofs" is no version'), (["--format=iso"], "not iso"),
    (["--root=/nowhere"], "there is no directory /nowhere"), (["--out=/nowhere/x.erofs"], "no directory /nowhere for"),
    (["--out={tree}/usr/x.erofs"], "lies in the tree"), (["--root="], "make wants --root")])
def test_what_makes_no_sense_is_named(tree, tmp_path, words, said):
    words = [word.format(tree=tree) for word in words]
    ran = subprocess.run([TOOL, "make", "--root", tree, "--version=7", f"--out={tmp_path}/7.erofs", *words], text=True,
                         capture_output=True)
    assert ran.returncode in (1, 2) and said in ran.stderr, ran.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tree"]


def test_help_and_words():
    for words in (["--help"], ["help"], ["make", "--help"], ["collect", "-h"]):
        ran = subprocess.run([TOOL, *words], text=True, capture_output=True)
        assert (ran.returncode, ran.stderr) == (0, "") and "molt-image choose" in ran.stdout
    for words, said in ((["frob"], "frob"), (["list", "frob"], "frob"), (["collect", "frob"], "frob"), (["default"], "version"),
                        (["remove"], "version"), (["default", "1", "2"], "one version")):
        ran = subprocess.run([TOOL, *words], text=True, capture_output=True)
        assert ran.returncode == 2 and said in ran.stderr, words


def test_what_is_no_system_is_no_image(tree, tmp_path):
    (tree / "usr/bin/initctl").unlink()
    (tree / "usr/lib/modules/6.1/modules.dep").unlink()
    (tree / "usr/sbin/molt").chmod(0o644)
    said = make(tree, tmp_path / "x.erofs", code=1)
    for what in ("no /sbin/init", "no initctl", "no kernel modules"):
        assert what in said
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]
    assert "--format is" in make(tree, tmp_path / "x.iso", code=2)
