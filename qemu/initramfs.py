# SPDX-License-Identifier: MIT
"""molt as /init: initramfs that conf/initramfs makes, and a small root on every kind of disk.

The root has nothing of Debian in it: molt, busybox and the agent. It comes up in a few seconds.
"""

from __future__ import annotations

import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps
from qemu.kernel import Kernel
from qemu.lab import LAB, REPOSITORY, Room

TOOL = REPOSITORY / "conf/initramfs/molt-initramfs"
MODULES = "nvme dm-mod dm-verity squashfs overlay ext4 btrfs loop virtio_scsi virtio_pci sd_mod"

AGENT = """[Service]
ExecStart=/usr/libexec/molt-lab/agent /dev/{0}
[Upgrade]
Policy=keep
"""
# Everything is emulated, on a machine that may have other things to do.
CONFIGURATION = """[Boot]
Services=agent.service
[Upgrade]
FreezeTimeoutSec=20
BlackoutTimeoutSec=60
CheckTimeoutSec=120
ExecTimeoutSec=120
"""
# What else a root has for init=.
OTHER_INIT = """#!/bin/sh
echo "another init: $0 $*" > /dev/kmsg
exec /sbin/init "$@"
"""
APPLETS = ("mountpoint", "head", "grep", "wc", "cut", "awk", "test", "[", "sync", "tail", "sort", "find")


def make(room: Room, path: Path, /, **more: str) -> None:
    """Writes an initramfs for the room's kernel; `more` are options of the tool."""
    write(path, room.kernel, room.build, **more)


def write(path: Path, kernel: Kernel, build: Path, /, **more: str) -> None:
    """Writes one for any kernel, with the molt of `build`. For another architecture than the machine's
    `more` has to have a busybox of it, and the kernel's version."""
    options = {"kernel": str(kernel.image), "modules-root": str(kernel.layer / "usr/lib/modules"),
               "molt": str(build / "molt"), "busybox": deps.tool("busybox"),
               "modules": MODULES, "compress": "none"} | more
    child.check([str(TOOL), "--quiet", "--output", str(path),
                 *(f"--{name}={value}" for name, value in options.items())])


def root_tree(room: Room, initrd: Path, tree: Path, agent: str = "ttyS1") -> Path:
    """A root of what is in the initramfs already, but its modules, and the agent."""
    tree.mkdir()
    with initrd.open("rb") as file:
        child.check([deps.tool("busybox"), "cpio", "-i", "-d", "-m"], cwd=tree, stdin=file)
    for name in ("init", "shutdown", "etc/initrd-release", "etc/molt/leave"):
        (tree / name).unlink()
    shutil.rmtree(tree / "usr/lib/modules", ignore_errors=True)
    # Without, no upgrade to it: a kernel goes on running that has modules loaded.
    (tree / "usr/lib/modules" / room.kernel.release).mkdir(parents=True)
    (tree / "usr/sbin/init").symlink_to("molt")
    shutil.copy2(room.build / "initctl", tree / "usr/bin/initctl")
    (tree / LAB).mkdir(parents=True)
    shutil.copy2(room.build / "tools/agent", tree / LAB / "agent")
    (tree / "var/lib/molt").mkdir(parents=True)
    (tree / "etc/machine-id").touch()
    (tree / "etc/molt/system").mkdir()
    (tree / "etc/molt/system/agent.service").write_text(AGENT.format(agent))
    (tree / "etc/molt/init.conf").write_text(CONFIGURATION)
    (tree / "usr/sbin/other-init").write_text(OTHER_INIT)
    (tree / "usr/sbin/other-init").chmod(0o755)
    for name in APPLETS:
        link = tree / "usr/bin" / name
        if not link.is_symlink():
            link.symlink_to("busybox")
    return tree


# ---- disks ----

def squashfs(tree: Path, path: Path) -> Path:
    child.check(["mksquashfs", str(tree), str(path), "-quiet", "-no-progress", "-noI", "-noD", "-noF",
                 "-noX", "-all-root"])
    return path


def ext4(path: Path, tree: Path | None, size: str, label: str = "") -> Path:
    child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-E", "root_owner=0:0",
                 *(["-L", label] if label else []), *(["-d", str(tree)] if tree else []),
                 str(path), size])
    return path


def partitioned(content: Path, path: Path, signature: int) -> Path:
    """A disk with a partition table, and one partition with that content: PARTUUID=SIGNATURE-01."""
    sectors = content.stat().st_size // 512
    with path.open("wb") as disk:
        disk.seek(440)
        disk.write(struct.pack("<IH", signature, 0))
        # Not marked for booting, no cylinders, Linux, from the first mebibyte on.
        disk.write(struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", 2048, sectors))
        disk.seek(510)
        disk.write(b"\x55\xaa")
        disk.seek(2048 * 512)
        with content.open("rb") as source:
            shutil.copyfileobj(source, disk)
    return path


def btrfs(tree: Path, path: Path, subvolume: str) -> Path:
    """The tree in a subvolume that is not the default one."""
    with path.open("wb") as disk:
        disk.truncate(256 << 20)
    child.check([deps.tool("mkfs.btrfs"), "-q", "-L", "pool", str(path)])
    top = path.with_suffix(".top")
    top.mkdir()
    child.check(["mount", "-o", "loop", str(path), str(top)])
    try:
        child.check([deps.tool("btrfs"), "subvolume", "create", str(top / subvolume)])
        child.check(["cp", "-a", f"{tree}/.", str(top / subvolume)])
    finally:
        child.check(["umount", str(top)])
    return path


@dataclass(frozen=True)
class Verified:
    """A squashfs, and a file with its hashes."""

    data: Path
    hashes: Path
    root_hash: str


def verified(data: Path) -> Verified:
    hashes = data.with_suffix(".hashes")
    said = child.run([deps.tool("veritysetup"), "format", str(data), str(hashes)])
    found = re.search(r"^Root hash:\s*([0-9a-f]+)$", said.stdout, re.M)
    if not found:
        raise RuntimeError(f"veritysetup made no hashes: {said.stderr.strip()}")
    return Verified(data, hashes, found.group(1))
