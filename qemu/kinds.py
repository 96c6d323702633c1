# SPDX-License-Identifier: MIT
"""Every kind of image on a real kernel with its file systems as modules: one machine, upgraded from
each to the next.

    a block device, files with squashfs, erofs and ext4, a subvolume of a btrfs by its device and as
    a directory, dm-verity with libmount of Debian 12 and of Debian 13

After each the root is what was asked for, and the loop and mapper devices are those of the image
that runs, and no more. So they are after what is refused: wrong or damaged hashes, a signature that
nobody knows, a damaged init or check, and a child that is killed while it makes the mapping.
"""

from __future__ import annotations

import mmap
import re
import struct
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path

from qemu import child, deps
from qemu.guest import Guest
from qemu.images import Image
from qemu.lab import Room, marked, write_layer
from qemu.upgrade import upgrade

SUITES = ("bookworm", "trixie")
UPGRADE_TIMEOUT = 120.0

FILES = {"etc/molt/init.conf": "[Boot]\nServices=agent.service\n"
                               "[Upgrade]\nRollbackWindowSec=0\nCarry=/etc/carried\n",
         "etc/carried": ""}

# Of the disks beyond the usual four.
STORE, BTRFS, DATA, HASH = (f"/dev/nvme0n{n}" for n in (5, 6, 7, 8))

# The path of a backing file begins where it is mounted: in a namespace that is gone.
DEVICES = """cat /sys/block/loop*/loop/backing_file 2>/dev/null | sed 's|.*/||' | sort
ls /sys/block | sed -n 's/^dm-.*/mapped/p'"""

BLOCK = 4096  # of what veritysetup hashes

# Too large to share a block of the squashfs with other files.
CHECK = "etc/molt/post-pivot.d/check"
CHECK_TEXT = "#!/bin/sh\n# Of the newer Debian.\nexit 0\n" + "# There is more of it.\n" * 10000

# Mounting asks for the module, and waits until it is told to go on: with the mapping made, and
# nobody to have it removed yet. The judging child has not executed anything: it is called as PID 1
# is.
SLOW_MODPROBE = """#!/bin/sh
case $* in *squashfs*) : >/run/asked; until [ -e /run/go ]; do sleep 0.1; done ;; esac
exec /sbin/modprobe "$@"
"""
KILL_AT_MAPPING = """{
until [ -e /run/asked ]; do sleep 0.1; done
ls -d /sys/block/dm-* >/run/mapped
read own < /proc/1/comm
for child in $(cat /proc/1/task/1/children); do
    read name < /proc/$child/comm && [ "$name" = "$own" ] && kill -9 $child
done
} >/dev/null 2>&1 &
exec"""


def all_kinds(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    with Room(build, log) as room:
        room.gather(list(SUITES))
        small = write_layer(room.directory / "small", FILES)
        first = room.image("first", "bookworm", [small])
        second = room.image("second", "bookworm", [small, marked(room.directory, "12.molted")])
        checked = write_layer(room.directory / "checked", {CHECK: CHECK_TEXT})
        third = room.image("third", "trixie", [small, checked])
        disks, root_hash = _make_disks(room.directory / "disks", second, third)
        damaged = {"init": _block_of(_entry(room.build / "molt"), disks[2]),
                   "check": _block_of(CHECK_TEXT.encode()[:256], disks[2]) + 1}
        with room.machine(first, second, extra=disks) as vm:
            guest = Guest(vm)
            guest.wait_booted()
            guest.wait_until("initctl status agent", 60.0)
            _story(guest, root_hash, damaged)
            guest.send("initctl poweroff")
            vm.wait_off(60.0)


@contextmanager
def _mounted(image: Path, at: Path, options: str) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    child.check(["mount", "-o", options, str(image), str(at)])
    try:
        yield at
    finally:
        child.check(["umount", str(at)])


def _make_disks(out: Path, second: Image, third: Image) -> tuple[list[Path], str]:
    """A disk with files that are images, a btrfs, and a squashfs with its hashes: the newer Debian,
    so that what comes after it is mounted by that one's libmount."""
    out.mkdir()
    store, btrfs, data, tree = out / "store", out / "btrfs.img", out / "data", out / "hash"
    files = out / "files"
    files.mkdir()
    with _mounted(second.root, out / "root", "ro,loop") as root:
        # Not compressed: it is time that is short.
        child.check(["mksquashfs", str(root), str(files / "two.squashfs"), "-quiet", "-no-progress",
                     "-noI", "-noD", "-noF", "-noX"])
        child.check(["mkfs.erofs", "--quiet", str(files / "two.erofs"), str(root)])
        with btrfs.open("wb") as file:
            file.truncate(1 << 30)
        child.check([deps.tool("mkfs.btrfs"), "-q", str(btrfs)])
        with _mounted(btrfs, out / "top", "loop") as top:
            child.check([deps.tool("btrfs"), "subvolume", "create", f"{top}/blue"])
            child.check(["cp", "-a", f"{root}/.", f"{top}/blue"])
            child.check([deps.tool("btrfs"), "subvolume", "snapshot", f"{top}/blue",
                         f"{top}/green"])
    child.check(["cp", "--sparse=always", str(second.root), str(files / "two.ext4")])
    with _mounted(third.root, out / "root", "ro,loop") as root:
        child.check(["mksquashfs", str(root), str(data), "-quiet", "-no-progress", "-noI", "-noD",
                     "-noF", "-noX"])
    veritysetup = deps.tool("veritysetup")
    root_hash = _root_hash(child.run([veritysetup, "format", str(data), str(tree)]).stdout)
    two = child.run([veritysetup, "format", str(files / "two.erofs"), str(files / "two.hash")])
    (files / "two.roothash").write_text(_root_hash(two.stdout))
    (files / "short.hash").write_bytes((files / "two.hash").read_bytes()[:8192])
    (files / "two.p7s").write_bytes(b"no signature" * 50)
    child.check(["mke2fs", "-q", "-t", "ext4", "-d", str(files), str(store), "2500M"])
    return [store, btrfs, data, tree], root_hash


def _root_hash(said: str) -> str:
    found = re.search(r"^Root hash:\s+([0-9a-f]+)$", said, re.MULTILINE)
    assert found, said
    return found.group(1)


def _entry(program: Path) -> bytes:
    """What is at the entry point of a program."""
    elf = program.read_bytes()
    entry, table = struct.unpack_from("<QQ", elf, 24)
    size, count = struct.unpack_from("<HH", elf, 54)
    for n in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", elf, table + n * size)
        if kind == 1 and address <= entry < address + length:
            return elf[offset + entry - address:][:256]
    raise AssertionError(f"{program} has no entry point")


def _block_of(text: bytes, image: Path) -> int:
    """Which block of an image that is not compressed begins with it, or has it inside."""
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        found = content.find(text)
    assert found >= 0, f"{text!r} is not in {image}"
    return found // BLOCK


def _story(guest: Guest, root_hash: str, damaged: dict[str, int]) -> None:
    guest.check(f"mkdir -p /var/images /var/b && mount -o ro {STORE} /var/images")
    _onto(guest, "/dev/nvme0n2", "ext4", "12.molted", loops=[])
    # Carried from here on, from one read-only image to the next.
    guest.check("grep -q ' /etc/carried ' /proc/self/mountinfo && echo me > /etc/carried")
    for kind in ("squashfs", "erofs", "ext4"):
        _onto(guest, f"/var/images/two.{kind}", kind, "12.molted", loops=[f"two.{kind}"])
    # What is there already is told, and nothing happens.
    done = guest.run("initctl upgrade /var/images/two.ext4")
    assert done.code == 0 and "already there" in done.output, done
    _onto(guest, f"--mount-options=ro,subvol=blue {BTRFS}", "btrfs", "12.molted", loops=[])
    guest.check("grep -q ' /blue / ' /proc/self/mountinfo")
    guest.check(f"mount -o ro {BTRFS} /var/b")
    _onto(guest, "/var/b/green", "btrfs", "12.molted", loops=[])
    guest.check("grep -q ' /green / ' /proc/self/mountinfo")
    wrong = "0" * 64
    _refused(guest, f"--verity-hash={HASH} --root-hash={wrong} {DATA}", "root hash")
    _refused(guest, f"--verity-hash=/dev/nvme0n4 --root-hash={root_hash} {DATA}", "dm-verity")
    verified = f"--verity-hash={HASH} --root-hash={root_hash} {DATA}"
    _verity_that_fails(guest, verified, damaged)
    plan = guest.check(f"initctl plan {verified}")
    assert "squashfs device, read-only, with dm-verity, on /dev/mapper/" in plan, plan
    _settle(guest, [], 0)
    _onto(guest, verified, "squashfs", "13", loops=[], mapped=1)
    done = guest.run(f"initctl upgrade {verified}")
    assert done.code == 0 and "already there" in done.output, done
    # From here on it is the other Debian's libmount; a file behind dm-verity has a loop device for
    # each of its two parts.
    _onto(guest, "--verity-hash=/var/images/two.hash --root-hash=/var/images/two.roothash "
          "/var/images/two.erofs", "erofs", "12.molted",
          loops=["two.erofs", "two.hash"], mapped=1)
    _onto(guest, "/dev/nvme0n2", "ext4", "12.molted", loops=[])
    guest.check("test $(cat /etc/carried) = me && "
                "test $(grep -c ' /etc/carried ' /proc/self/mountinfo) = 1")


def _verity_that_fails(guest: Guest, verified: str, damaged: dict[str, int]) -> None:
    two = "--root-hash=/var/images/two.roothash /var/images/two.erofs"
    _refused(guest, f"--verity-hash=/var/images/short.hash {two}", "cut short")
    _refused(guest, f"--verity-hash=/var/images/none {two}", "cannot open the device with the hashes")
    _refused(guest, f"--root-hash-sig=/var/images/two.p7s --verity-hash=/var/images/two.hash {two}",
             "a signature by a key that the kernel does not know")
    # The hashes are right, and what is there is not what they say: seen before anything is touched,
    # or when it is needed.
    with _damage(guest, damaged["init"]):
        done = upgrade(guest, verified, UPGRADE_TIMEOUT)
        assert done.code == 3 and ("Input/output error" in done.text or "SIGBUS" in done.text), done
        _settle(guest, [], 0)
    with _damage(guest, damaged["check"]):
        done = upgrade(guest, verified, UPGRADE_TIMEOUT)
        assert done.code == 4 and f"/{CHECK}" in done.text, done
        _settle(guest, [], 0)
    guest.check("grep -q molted /etc/os-release && grep -q ' /green / ' /proc/self/mountinfo")
    guest.check(f"modprobe -r squashfs && cat >/var/modprobe <<'END'\n{SLOW_MODPROBE}END\n"
                "chmod 755 /var/modprobe && echo /var/modprobe >/proc/sys/kernel/modprobe")
    done = guest.run(f"{KILL_AT_MAPPING} initctl upgrade {verified}")
    assert done.code == 3 and "ended without an answer" in done.output, done
    guest.check(": >/run/go; echo /sbin/modprobe >/proc/sys/kernel/modprobe; grep dm- /run/mapped")
    _settle(guest, [], 0)


@contextmanager
def _damage(guest: Guest, number: int) -> Iterator[None]:
    block = f"bs={BLOCK} count=1 status=none"
    guest.check(f"dd if={DATA} of=/run/block skip={number} {block} && "
                f"dd if=/dev/zero of={DATA} seek={number} conv=fsync {block}")
    yield
    guest.check(f"dd if=/run/block of={DATA} seek={number} conv=fsync {block}")


def _onto(guest: Guest, image: str, fstype: str, version: str, loops: list[str],
          mapped: int = 0) -> None:
    done = upgrade(guest, image, UPGRADE_TIMEOUT)
    assert (done.code, done.text) == (0, "committed"), f"{image}: {done}"
    root = guest.check("awk '$5 == \"/\" { print }' /proc/self/mountinfo").split(" - ")
    assert root[1].split()[0] == fstype, f"{image}: {root}"
    assert root[0].split()[5].split(",")[0] == "ro", f"{image}: {root}"
    assert f'VERSION_ID="{version}"' in guest.check("cat /etc/os-release"), image
    _settle(guest, loops, mapped)


def _refused(guest: Guest, image: str, word: str) -> None:
    done = upgrade(guest, image, UPGRADE_TIMEOUT)
    assert done.code == 3 and word in done.text, f"{image}: {done}"
    _settle(guest, [], 0)


def _settle(guest: Guest, loops: list[str], mapped: int) -> None:
    """Waits until there are only those devices."""
    wanted = "\n".join([*loops, *(["mapped"] * mapped)])
    guest.wait_until(f'got=$({DEVICES}\n); [ "$got" = "{wanted}" ] || {{ echo "$got"; exit 1; }}',
                     30.0, f"the devices {wanted!r} and no more")


if __name__ == "__main__":
    all_kinds(Path("build"), Path("build/kinds"))
