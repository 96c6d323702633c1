# SPDX-License-Identifier: MIT
"""Roots that molt finds as /init of an initramfs, and lets go of on the way down.

    python3 -m qemu.initramfs_boots --build build [NAME...]

some() plays a few of BOOTS, two machines at a time; `make initramfs-test` all of them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from qemu import child, deps, foreign, images, initramfs, kernel, ramdisk
from qemu.board import BOARDS
from qemu.guest import Guest
from qemu.lab import CACHE, KERNEL_SUITE, REPOSITORY, Room
from qemu.machine import Config, Machine, MachineError
from qemu.packages import PackageError, Suite
from qemu.progress import say

BOOT_TIMEOUT = 180.0
OFF_TIMEOUT = 60.0
UPGRADE_TIMEOUT = 180.0
MISSING = "UUID=00000000-dead-beef-0000-000000000000"
SIGNATURE = 0x6d6f6c74
PARTUUID = f"{SIGNATURE:08x}-01"
RELEASED = "the root is released: nothing is mounted, and no disk is in use"
SHELL = "A root shell in the initramfs"


@dataclass
class Stage:
    """One machine, and its disks on this side."""

    vm: Machine
    guest: Guest
    disks: list[Path]

    def up(self) -> None:
        self.guest.wait_booted(BOOT_TIMEOUT)

    def off(self, released: bool = True) -> None:
        """By molt; on a root that is made of something, nothing of it is in use in the end."""
        self.guest.send("initctl poweroff")
        reason = self.vm.wait_off(OFF_TIMEOUT)
        assert reason == "guest-shutdown", reason
        said = self.vm.console.text()
        assert not released or RELEASED in said, f"the root was not released:\n{said[-2000:]}"

    def mount_of_root(self) -> str:
        """Its line in mountinfo: there is one alone."""
        line = self.guest.check("awk '$5 == \"/\" { print }' /proc/self/mountinfo")
        assert len(line.splitlines()) == 1, line
        return line


@dataclass(frozen=True)
class Boot:
    """`disks` writes into a directory of its own; `append` and `play` may ask what it made."""

    disks: Callable[[Materials], list[Path]]
    append: Callable[[Materials], str]
    play: Callable[[Stage], None]
    devices: tuple[str, ...] = ()  # of QEMU, beyond the usual ones
    again: Callable[[Stage], None] | None = None  # booted once more from the same disks
    early: Callable[[Materials], tuple[kernel.Kernel, Path]] | None = None  # another kernel and initramfs


class Materials:
    """What several boots are made of; each thing is made once."""

    def __init__(self, room: Room, architecture: str) -> None:
        self.room = room
        self.architecture = architecture
        self.initrd = room.directory / "early"
        foreign_ones = _gather_foreign(room, architecture) if architecture != "amd64" else {}
        initramfs.make(room, self.initrd, **foreign_ones)
        self.tree = initramfs.root_tree(room, self.initrd, room.directory / "tree",
                                        BOARDS[architecture].agent)
        self._squashfs: initramfs.Verified | None = None
        self._count = 0

    def place(self) -> Path:
        self._count += 1
        directory = self.room.directory / f"disks-{self._count}"
        directory.mkdir()
        return directory

    def image(self) -> initramfs.Verified:
        """Of the tree, with hashes."""
        if not self._squashfs:
            data = initramfs.squashfs(self.tree, self.room.directory / "root.squashfs")
            self._squashfs = initramfs.verified(data)
        return self._squashfs

    def copy(self, path: Path) -> Path:
        """QEMU locks its disks."""
        target = self.place() / path.name
        child.check(["cp", "--sparse=always", "--reflink=auto", str(path), str(target)])
        return target

    def ext4(self, label: str = "") -> Path:
        return initramfs.ext4(self.place() / "root.ext4", self.tree, "96M", label)

    def state(self) -> Path:
        return initramfs.ext4(self.place() / "state.ext4", None, "32M", "state")

    def verity(self) -> list[Path]:
        image = self.image()
        return [self.copy(image.data), self.copy(image.hashes)]


def _gather_foreign(room: Room, architecture: str) -> dict[str, str]:
    """Its kernel for the room, and a busybox: options of the tool. The libraries it finds where cross
    building has them; the image of such a kernel does not tell its version."""
    suite = Suite(KERNEL_SUITE, CACHE / "apt" / f"{KERNEL_SUITE}-{architecture}", architecture)
    suite.refresh()
    room.kernel = kernel.get(suite, CACHE / architecture)
    return {"kernel": room.kernel.release, "busybox": str(foreign.busybox(suite, CACHE))}


# ---- a device by its path, label and partition ----

def _device(stage: Stage) -> None:
    stage.up()
    line = stage.mount_of_root()
    assert " ext4 " in line and re.search(r" / / ro\S*,noatime ", line) and "commit=7" in line, line
    mounted = stage.guest.check("cut -d' ' -f5 /proc/self/mountinfo").splitlines()
    for place in ("/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup"):
        assert mounted.count(place) == 1, f"{place} is mounted {mounted.count(place)} times"
    stage.guest.check("grep -q 'in the initramfs' /run/molt/init.log")
    stage.guest.check("! test -e /run/initramfs")  # nothing has to be let go of
    blame = stage.guest.check("initctl --json blame")
    assert re.search(r'"initramfs_usec":[1-9]', blame), blame
    stage.off(released=False)


def _label(stage: Stage) -> None:
    """And another init, with its arguments, on a root that is written to."""
    stage.up()
    assert re.search(r" / / rw", stage.mount_of_root())
    stage.guest.check("dmesg | grep -q 'another init: /sbin/other-init hello'")
    stage.guest.check("echo written > /etc/written")
    stage.off(released=False)
    assert not images.unclean(stage.disks[0]), images.unclean(stage.disks[0])


def _partition(stage: Stage) -> None:
    stage.up()
    assert stage.guest.check("grep -c nvme0n1p1 /proc/partitions") == "1"
    stage.mount_of_root()
    stage.off(released=False)


def _btrfs(stage: Stage) -> None:
    stage.up()
    line = stage.mount_of_root()
    assert " btrfs " in line and "subvol=/one" in line, line
    stage.off(released=False)


# ---- overlays ----

def _kept(stage: Stage) -> None:
    """What is written is there at the next boot, and its file system was unmounted cleanly."""
    stage.up()
    assert " - overlay " in stage.mount_of_root()
    stage.guest.check("test ! -e /etc/written && echo written > /etc/written && rm /usr/bin/sort")
    stage.off()
    assert not images.unclean(stage.disks[1]), images.unclean(stage.disks[1])


def _kept_again(stage: Stage) -> None:
    stage.up()
    stage.guest.check("grep -q written /etc/written && test ! -e /usr/bin/sort")
    stage.guest.check("test -e /usr/bin/cut")
    stage.off()


# ---- dm-verity and images ----

def _look_at_verified(stage: Stage) -> None:
    stage.up()
    assert " - overlay " in stage.mount_of_root()
    mounted = stage.guest.check("cut -d' ' -f5 /proc/self/mountinfo").splitlines()
    assert not [place for place in mounted if "layers" in place or "sysroot" in place], mounted
    stage.guest.check("echo written >/etc/written && grep -q written /etc/written")
    assert stage.guest.check("cat /sys/block/dm-0/dm/uuid").startswith("CRYPT-VERITY-")
    stage.off()
    said = stage.vm.console.text()
    assert re.search(r"let go of the root and of what it lies on: .*dm-0 \(", said), said[-2000:]


def _wrong_hash(stage: Stage) -> None:
    console = stage.vm.console
    console.expect("cannot mount /dev/nvme0n1 with dm-verity (wrong root hash", BOOT_TIMEOUT)
    console.expect(SHELL)
    console.expect("# ")
    # Nothing is left of it: another try finds the disk free, and says the same.
    console.type("ls /sys/block | grep dm-; exit")
    console.expect("cannot mount /dev/nvme0n1 with dm-verity (wrong root hash", BOOT_TIMEOUT)
    assert "\ndm-" not in console.text(), console.text()[-2000:]
    console.expect("# ")
    console.type("poweroff -f")
    assert stage.vm.wait_off(OFF_TIMEOUT) == "guest-shutdown"


def _image(stage: Stage) -> None:
    """A file with hashes beside it."""
    stage.up()
    assert " squashfs " in stage.mount_of_root()
    stage.guest.check("ls /sys/block/dm-0 && cat /sys/block/loop*/loop/backing_file | grep -q images")
    stage.off()
    said = stage.vm.console.text()
    assert re.search(r"what it lies on: .*loop\d+ \(", said), said[-2000:]


def _written_image(stage: Stage) -> None:
    """A file that is written to, on a file system that is written to: both are clean in the end, also if
    PID 1's program has been replaced."""
    stage.up()
    assert re.search(r" / / rw.* ext4 /dev/loop", stage.mount_of_root())
    stage.guest.check("echo written > /run/molt/store/written && echo written > /etc/written")
    stage.guest.check("cp /usr/sbin/molt /usr/sbin/new && mv /usr/sbin/new /usr/sbin/molt")
    stage.off()
    [store] = stage.disks
    assert not images.unclean(store), images.unclean(store)
    inside = store.with_suffix(".inside")
    child.check([deps.tool("debugfs"), "-R", f"dump /images/root.ext4 {inside}", str(store)])
    assert not images.unclean(inside), images.unclean(inside)


def _upgraded(stage: Stage) -> None:
    """To another file on the same store: neither is in use in the end, nor is the store."""
    stage.up()
    stage.guest.check("initctl upgrade /run/molt/store/images/two.squashfs", UPGRADE_TIMEOUT)
    stage.guest.check("cat /sys/block/loop*/loop/backing_file | grep -q two.squashfs")
    assert " squashfs " in stage.mount_of_root()
    stage.off()


def _two_images(materials: Materials) -> list[Path]:
    two = materials.place() / "two.squashfs"
    child.check(["cp", "--reflink=auto", str(materials.image().data), str(two)])
    return _store(materials, [materials.image().data, two])


def _store(materials: Materials, files: list[Path]) -> list[Path]:
    """A file system with image files."""
    tree = materials.place() / "store"
    (tree / "images").mkdir(parents=True)
    for file in files:
        child.check(["cp", "--sparse=always", str(file), str(tree / "images" / file.name)])
    return [initramfs.ext4(materials.place() / "store.ext4", tree, "192M", "store")]


# ---- other kernels ----

def _all_modules(materials: Materials) -> tuple[kernel.Kernel, Path]:
    """As `make initramfs KERNEL=IMAGE OUT=FILE` makes it for a person, of a kernel whose modules are
    packed."""
    linux = _newer_kernel()
    initrd = materials.place() / "initrd"
    child.check(["make", "--no-print-directory", "initramfs", f"KERNEL={linux.image}", f"OUT={initrd}",
                 f"BUILD={materials.room.build}",
                 f"INITRAMFS_FLAGS=--modules-root {linux.layer}/usr/lib/modules"], cwd=REPOSITORY)
    return linux, initrd


def _packed_modules(materials: Materials) -> tuple[kernel.Kernel, Path]:
    """Somebody else's initramfs with molt as /init: the kernel has to unpack the modules."""
    linux = _newer_kernel()
    initrd, tree = materials.place() / "initrd", materials.place() / "tree"
    initramfs.write(initrd, linux, materials.room.build)
    tree.mkdir()
    with initrd.open("rb") as file:
        child.check([deps.tool("busybox"), "cpio", "-i", "-d", "-m"], cwd=tree, stdin=file)
    for module in tree.rglob("*.ko"):
        child.check(["xz", "--check=crc32", "--lzma2=dict=1MiB", str(module)])
    [names] = tree.rglob("modules.dep")
    names.write_text(names.read_text().replace(".ko", ".ko.xz"))
    ramdisk.pack(tree, initrd)
    return linux, initrd


def _newer_kernel() -> kernel.Kernel:
    suite = Suite("trixie", CACHE / "apt" / "trixie-kernel")
    suite.refresh()
    return kernel.get(suite, CACHE / "trixie")


# ---- mdev in the root ----

MDEV_RULES = "nvme0n2 0:0 640 =lab/data\nzero 0:0 644\n.* 0:0 660\n"
MDEV_FSTAB = "/dev/lab/data /srv ext4 rw,x-systemd.device-timeout=60s 0 0\n"


def _mdev_root(materials: Materials) -> list[Path]:
    """busybox's manager of devices as molt ships it; only its rules give a disk the name that fstab has."""
    tree = materials.place() / "tree"
    child.check(["cp", "-a", str(materials.tree), str(tree)])
    units = tree / "usr/lib/molt/system"
    units.mkdir(parents=True, exist_ok=True)
    for unit in ("mdev.service", "mdev-coldplug.service"):
        shutil.copy2(REPOSITORY / "conf/units" / unit, units)
    (tree / "usr/sbin/mdev").symlink_to("../bin/busybox")
    (tree / "etc/mdev.conf").write_text(MDEV_RULES)
    (tree / "etc/fstab").write_text(MDEV_FSTAB)
    (tree / "srv").mkdir(exist_ok=True)
    return [initramfs.ext4(materials.place() / "root.ext4", tree, "96M"), materials.state()]


def _mdev(stage: Stage) -> None:
    stage.up()
    stage.guest.check("initctl status mdev.service | grep -q running")
    stage.guest.check("initctl status mdev-coldplug.service | grep -q exited")
    stage.guest.check("test -b /dev/lab/data && test $(busybox stat -c %a /dev/zero) = 644")
    stage.guest.check("grep -q ' /srv rw' /proc/self/mountinfo && echo written > /srv/written")
    stage.guest.check("! grep -e 'root shell' -e 'bringing up the services of devices' /run/molt/init.log")
    stage.off(released=False)
    assert not images.unclean(stage.disks[1]), images.unclean(stage.disks[1])


# ---- what does not come, or is not there ----

def _late(stage: Stage) -> None:
    """The disk is plugged in while it is waited for; the bus and the disk need modules."""
    stage.vm.console.expect("waiting for the root, LABEL=late", BOOT_TIMEOUT)
    [disk] = stage.disks
    stage.vm.qmp.execute("blockdev-add", {"driver": "raw", "node-name": "late",
                                          "file": {"driver": "file", "filename": str(disk)}})
    stage.vm.qmp.execute("device_add", {"driver": "scsi-hd", "drive": "late", "bus": "bus0.0"})
    stage.up()
    stage.guest.check("grep -q '^sd_mod ' /proc/modules && grep -q '^virtio_scsi ' /proc/modules")
    stage.off(released=False)


def _lost(stage: Stage) -> None:
    """The shell says what was looked for, and takes what a person mounts."""
    console = stage.vm.console
    console.expect("rootdelay=soon on the kernel command line makes no sense", BOOT_TIMEOUT)
    console.expect(f"the root, {MISSING}, did not come within 1 s", BOOT_TIMEOUT)
    console.expect("the block devices are: nvme0n1\r\n")
    console.expect(SHELL)
    console.expect("# ")
    console.type("mount -t squashfs -o ro /dev/nvme0n1 /sysroot && exit")
    stage.up()
    stage.guest.check("grep -q ' / / ro.* squashfs ' /proc/self/mountinfo")
    stage.off(released=False)


def _no_init(stage: Stage) -> None:
    console = stage.vm.console
    console.expect("the root has no program /sbin/nobody (init=)", BOOT_TIMEOUT)
    console.expect(SHELL)
    console.expect("# ")
    console.type("poweroff -f")
    assert stage.vm.wait_off(OFF_TIMEOUT) == "guest-shutdown"


def _unattended(stage: Stage) -> None:
    """Nobody is there to see a shell: it is said, and the machine is started anew."""
    stage.vm.console.expect("molt.overlay=always: it is", BOOT_TIMEOUT)
    assert stage.vm.wait_off(OFF_TIMEOUT) == "guest-reset"
    assert SHELL not in stage.vm.console.text()


# The command line begins as every machine's here does (qemu/machine.py), and the last word counts.
VERITY = "root=/dev/nvme0n1 rootfstype=squashfs roothash={} molt.verity_hash=/dev/nvme0n2 "

BOOTS = {
    "device": Boot(lambda m: [m.ext4()],
                   lambda m: "root=/dev/nvme0n1 rootfstype=ext4 rootflags=noatime,commit=7", _device),
    "label": Boot(lambda m: [m.ext4("two_words")],
                  lambda m: "root=LABEL=two_words rw init=/sbin/other-init -- hello", _label),
    "all-modules": Boot(lambda m: [m.ext4("two_words")],
                        lambda m: "root=LABEL=two_words rw init=/sbin/other-init -- hello", _label,
                        early=_all_modules),
    "packed-modules": Boot(lambda m: [m.ext4("two_words")],
                           lambda m: "root=LABEL=two_words rw init=/sbin/other-init -- hello", _label,
                           early=_packed_modules),
    "partition": Boot(
        lambda m: [initramfs.partitioned(m.ext4(), m.place() / "disk", SIGNATURE)],
        lambda m: f"root=/dev/disk/by-partuuid/{PARTUUID} rootfstype=auto", _partition),
    "partuuid": Boot(
        lambda m: [initramfs.partitioned(m.ext4(), m.place() / "disk", SIGNATURE)],
        lambda m: f"root=PARTUUID={PARTUUID} rootfstype=auto", _partition),
    "btrfs": Boot(lambda m: [initramfs.btrfs(m.tree, m.place() / "btrfs", "one")],
                  lambda m: "root=LABEL=pool rootfstype=btrfs rootflags=subvol=one", _btrfs),
    "kept": Boot(lambda m: [m.copy(m.image().data), m.state()],
                 lambda m: "root=/dev/nvme0n1 rootfstype=squashfs molt.overlay=LABEL=state:/a/b", _kept,
                 again=_kept_again),
    "verified": Boot(lambda m: m.verity(),
                     lambda m: VERITY.format(m.image().root_hash) + "molt.overlay=tmpfs",
                     _look_at_verified),
    "wrong-hash": Boot(lambda m: m.verity(),
                       lambda m: VERITY.format("0" * 64) + "rd.shell rootdelay=20", _wrong_hash),
    "image": Boot(lambda m: _store(m, [m.image().data, m.image().hashes]),
                  lambda m: "root=LABEL=store molt.image=/images/root.squashfs "
                            "molt.verity_hash=/images/root.hashes "
                            f"roothash={m.image().root_hash}", _image),
    "upgraded": Boot(_two_images, lambda m: "root=LABEL=store molt.image=/images/root.squashfs",
                     _upgraded),
    "written-image": Boot(lambda m: _store(m, [m.ext4()]),
                          lambda m: "root=LABEL=store rw molt.image=/images/root.ext4", _written_image),
    "mdev": Boot(_mdev_root, lambda m: "root=/dev/nvme0n1 rootfstype=ext4", _mdev),
    "late": Boot(lambda m: [m.ext4("late")], lambda m: "root=LABEL=late rootfstype=ext4 rootdelay=100",
                 _late, devices=("virtio-scsi-pci,id=bus0",)),
    "lost": Boot(lambda m: [m.copy(m.image().data)],
                 lambda m: f"root={MISSING} rootdelay=1 rootdelay=soon rd.shell", _lost),
    "no-init": Boot(lambda m: [m.ext4()],
                    lambda m: "root=/dev/nvme0n1 init=/sbin/nobody rd.shell", _no_init),
    "unattended": Boot(lambda m: [m.copy(m.image().data)],
                       lambda m: "molt.overlay=always panic=-1", _unattended),
}


def some(build: Path, log: Path, names: Iterable[str], architecture: str = "amd64") -> None:
    """Plays those of BOOTS with what is built for the architecture in `build`; raises AssertionError or
    MachineError for the first thing that is not as it must be."""
    with Room(build, log) as room:
        if architecture == "amd64":
            room.gather([])
        else:
            deps.ensure(architecture)
        materials = Materials(room, architecture)
        todo = [(name, BOOTS[name], None) for name in names]
        while todo:
            pair, todo = todo[:2], todo[2:]
            todo += _play_together(materials, pair)


Turn = tuple[str, Boot, list[Path] | None]


def _play_together(materials: Materials, turns: list[Turn]) -> list[Turn]:
    """Returns what is to be booted once more."""
    again: list[Turn] = []
    # Machines are started in the main thread and stopped before the threads are waited for.
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        running = []
        for name, boot, disks in turns:
            disks = disks or boot.disks(materials)
            vm = stack.enter_context(_machine(materials, boot, disks, name))
            running.append((name, pool.submit(boot.play, Stage(vm, Guest(vm), disks))))
            if boot.again:
                again.append((f"{name}-again", replace(boot, play=boot.again, again=None), disks))
        for name, future in running:
            try:
                future.result()
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            say(f"{name}: as it must be")
    return again


def _machine(materials: Materials, boot: Boot, disks: list[Path], name: str) -> Machine:
    room = materials.room
    plugged = [] if boot.devices else disks  # else it is plugged in later
    linux, initrd = boot.early(materials) if boot.early else (room.kernel, materials.initrd)
    config = Config(linux.image, plugged, append=f"loglevel=6 {boot.append(materials)}",
                    initrd=initrd, devices=list(boot.devices),
                    architecture=materials.architecture)
    return Machine(config, room.log / f"{name}.log")


def main() -> int:
    parser = argparse.ArgumentParser(prog="qemu.initramfs_boots",
                                     description="Roots that molt finds as /init of an initramfs.")
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--architecture", default="amd64", choices=sorted(BOARDS))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BOOTS)}; none: all")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BOOTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BOOTS)}")
    if os.geteuid() != 0:
        sys.exit("initramfs-test: it mounts a btrfs to fill it: run it as root")
    child.exit_on_signals()
    try:
        some(options.build, options.build / "initramfs-test", options.names or BOOTS,
             options.architecture)
    except (AssertionError, MachineError, TimeoutError) as error:
        print(error)
        return 1
    except (deps.MissingPackages, PackageError, RuntimeError) as error:
        sys.exit(f"initramfs-test: {error}")
    say("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
