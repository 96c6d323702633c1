# SPDX-License-Identifier: MIT
"""Every boot partition that a loss of power can leave, while molt-image commits, finds good, goes back and
removes: read as a boot loader does, without journal or fsck.

A small guest does it on a disk whose writes are noted (writes.py). Before and after each act it marks the
log, past the end of the file system and without a flush: meanwhile the image from before or the one from
after has to be what boots, whole; afterwards only that.
"""

from __future__ import annotations

import random
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps, foreign, kernel, ramdisk
from qemu.lab import CACHE, KERNEL_SUITE
from qemu.machine import Config, Machine
from qemu.packages import Suite
from qemu.progress import say, step
from qemu.sidebyside import layout, writes
from qemu.sidebyside.fat import Damaged, Fat

BOOT = 120.0
SIZE = 48 << 20
MARKS = SIZE  # where marks are written
DRAWN = 24  # disks, at each moment
MODULES = ("nls_ascii", "nls_cp437", "fat", "vfat")

# Words of molt-image, which image runs then, and which boots before and after.
ACTS = (("commit", "1", "", "1"), ("good", "1", "1", "1"), ("commit", "2", "1", "2"), ("good", "2", "2", "2"),
        ("commit", "3", "2", "3"), ("good", "3", "3", "3"), ("commit", "1", "3", "1"), ("good", "1", "1", "1"),
        ("rollback", "3", "1", "3"), ("commit", "1", "3", "1"), ("good", "1", "1", "1"),
        ("remove 2", "1", "1", "1"))
INIT = """#!/bin/sh
export PATH=/bin MOLT_STORE=/store MOLT_BOOT=/boot MOLT_OS_RELEASE=/running MOLT_IMAGE_CONF=/image.conf
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for m in {modules}; do insmod /modules/$m.ko; done
until [ -b /dev/nvme0n1 ]; do sleep 0.05; done
mkdir /boot
mount -t {type} /dev/nvme0n1 /boot || echo "no boot partition"
mark() {{
	printf '%-512s' "mark $*" >/mark
	dd if=/mark of=/dev/nvme0n1 bs=512 seek={marks} oflag=direct conv=notrunc 2>/dev/null || echo "no mark"
}}
act() {{
	echo "IMAGE_VERSION=$2" >/running
	mark begin
	case $1 in
	rollback) MOLT_ROLLBACK=yes /usr/sbin/molt-image commit ;;
	*) /usr/sbin/molt-image $1 ;;
	esac || echo "act $*: failed"
	mark end
}}
{acts}
sleep 1
mark begin
echo all done
poweroff -f
"""


@dataclass(frozen=True)
class Partition:
    """A boot partition, what it has on it at first, and how its loader chooses: a version, or none."""

    type: str
    files: dict[str, str]
    chosen: Callable[[writes.Disk], str]


def content(version: str) -> bytes:
    """Of an image's kernel: a few clusters, none like the other."""
    return random.Random(version).randbytes(70_000)


def systemd_boot(read: Callable[[str], bytes], names: Callable[[str], list[str]]) -> str:
    """Of molt-*, those with tries left first, then by sort-key; what cannot be read is passed over."""
    if b"default molt-*\n" not in read("loader/loader.conf"):
        return ""
    found = []
    for name in names("loader/entries"):
        named = re.fullmatch(r"molt-(\w+)(?:\+(\d+)(?:-\d+)?)?\.conf", name)
        try:
            text = read(f"loader/entries/{name}").decode("utf-8", "replace") if named else ""
        except Damaged:
            continue
        keys = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        if named and "linux" in keys:
            found.append((named[2] == "0", keys.get("sort-key", "~"), named[1], keys))
    if not found:
        return ""
    _, _, version, keys = min(found, key=lambda entry: entry[:2])
    assert keys["options"] == f"image={version}", keys
    assert read(keys["linux"]) == content(version), f"the kernel of {version} is torn"
    return version


def extlinux(read: Callable[[str], bytes]) -> str:
    text = read("extlinux/extlinux.conf").decode("utf-8", "replace")
    assert text.endswith("\n") and "TIMEOUT 1\n" in text, f"extlinux.conf is torn: {text!r}"
    named = re.findall(r"^DEFAULT molt-(.*)$", text, re.MULTILINE)
    if not named:
        return ""
    version, = named
    assert f"LABEL molt-{version}\n\tLINUX /molt-{version}/linux\n\tAPPEND image={version}\n" in text, text
    assert read(f"molt-{version}/linux") == content(version), f"the kernel of {version} is torn"
    return version


def _fat_systemd(disk: writes.Disk) -> str:
    fat = Fat(disk.data)
    return systemd_boot(fat.read, lambda path: [e.name for e in fat.list(path).values()])


def _fat_extlinux(disk: writes.Disk) -> str:
    return extlinux(Fat(disk.data).read)


def _ext4_extlinux(disk: writes.Disk) -> str:
    """debugfs does not replay the journal either."""
    file = disk.path.with_name("read")

    def read(path: str) -> bytes:
        file.unlink(missing_ok=True)
        said = child.run([deps.tool("debugfs"), "-c", "-n", "-R", f"dump /{path} {file}", str(disk.path)])
        assert file.exists(), f"{path} cannot be read: {said.stderr}"
        return file.read_bytes()
    return extlinux(read)


EXTLINUX = {"extlinux/extlinux.conf": "TIMEOUT 1\n"}
PARTITIONS = {
    "systemd-boot on FAT": Partition("vfat", {"loader/loader.conf": "timeout 3\n", "loader/entries/": ""},
                                     _fat_systemd),
    "extlinux on FAT": Partition("vfat", EXTLINUX, _fat_extlinux),
    "extlinux on ext4": Partition("ext4", EXTLINUX, _ext4_extlinux),
}


def run(at: Path, build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    del build  # a shell script is what is looked at
    for name in PARTITIONS:
        with step(name):
            story(name, at, log, DRAWN if PARTITIONS[name].type == "vfat" else DRAWN // 4)


def story(name: str, at: Path, log: Path, drawn: int) -> None:
    deps.ensure()
    suite = Suite(KERNEL_SUITE, CACHE / "apt" / KERNEL_SUITE)
    suite.refresh()
    work = at / name.replace(" ", "-")
    work.mkdir()
    noted = _write(work, kernel.get(suite, CACHE), PARTITIONS[name], log / f"losses-{work.name}.log")
    _look(work, PARTITIONS[name], noted, drawn)


def _write(at: Path, found: kernel.Kernel, partition: Partition, log: Path) -> Path:
    disk, noted = _disk(at, partition), layout.empty(at / "writes", 0)
    shutil.copy2(disk, at / "before")
    ramdisk.pack(_initramfs(at / "initramfs", found, partition), at / "initrd")
    config = Config(found.image, [disk], initrd=at / "initrd", append="rdinit=/init", writes=noted)
    with Machine(config, log) as vm:
        vm.console.expect("all done", BOOT)
        assert vm.wait_off(BOOT) == "guest-shutdown"
        said = vm.console.text()
    for wrong in ("failed", "no mark", "no boot partition", "molt-image:"):
        assert wrong not in said, said
    return noted


def _disk(at: Path, partition: Partition) -> Path:
    """The file system, and room for a mark behind it."""
    tree, disk = at / "tree", at / "disk"
    for name, text in partition.files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if text:
            (tree / name).write_text(text)
        else:
            (tree / name).mkdir()
    layout.empty(disk, SIZE)
    if partition.type == "vfat":
        child.check([deps.tool("mkfs.vfat"), "-F", "32", str(disk)])
        child.check(["mcopy", "-s", "-i", str(disk), *map(str, tree.iterdir()), "::"])
    else:
        child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-O", "^64bit,^metadata_csum", "-d", str(tree),
                     str(disk)])
    with disk.open("r+b") as file:
        file.truncate(SIZE + (1 << 20))
    return disk


def _initramfs(root: Path, found: kernel.Kernel, partition: Partition) -> Path:
    foreign.lay_out(root, "amd64", Path(deps.tool("busybox")))
    layout.add_tool(root)
    (root / "modules").mkdir()
    for module in MODULES:
        file, = found.layer.glob(f"usr/lib/modules/*/kernel/fs/**/{module}.ko")
        shutil.copy2(file, root / "modules")
    (root / "image.conf").write_text("CommandLine=image=@VERSION@\nTries=2\n")
    for version in "123":
        image = root / "store" / version
        (image / "boot").mkdir(parents=True)
        (image / "etc").mkdir()
        (image / "etc/os-release").write_text(f"IMAGE_VERSION={version}\n")
        (image / "boot/vmlinuz").write_bytes(content(version))
    acts = "\n".join(f"act '{words}' {version}" for words, version, _, _ in ACTS)
    init = root / "init"
    init.write_text(INIT.format(modules=" ".join(MODULES), type=partition.type, marks=MARKS // 512, acts=acts))
    init.chmod(init.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return root


def _look(at: Path, partition: Partition, log: Path, drawn: int) -> None:
    chance = random.Random(4)
    disk = writes.Disk(at / "before", at / "found")
    marks, looked = 0, 0
    for write in writes.read(log):
        mark = write.at == MARKS and write.data.startswith(b"mark ")
        disk.take(write)
        marks += mark
        if marks == 0:
            continue
        act = ACTS[min((marks - 1) // 2, len(ACTS) - 1)]
        allowed = act[2:] if marks % 2 and marks < 2 * len(ACTS) else act[3:]
        for what in disk.outcomes(chance, drawn):
            version = partition.chosen(disk)
            assert version in allowed, \
                f"{'after' if len(allowed) == 1 else 'in'} `{act[0]}` of {act[1]}, {what} of the last writes: {version}"
            looked += 1
    assert marks == 2 * len(ACTS) + 1, marks
    say(f"looked at {looked} disks")
