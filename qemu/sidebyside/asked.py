# SPDX-License-Identifier: MIT
"""An initramfs that asks `molt-image choose`, as it is shipped: one with nothing but busybox, and molt's own.

One is booted and upgraded to two, and the plug is pulled after the commit: two boots. Three is made
the default, and its init ends at once: after its one try two boots again.
"""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from qemu import child, deps, foreign, initramfs, kernel, ramdisk
from qemu.guest import Guest
from qemu.lab import CACHE, KERNEL_SUITE
from qemu.machine import Config, Machine
from qemu.packages import Suite
from qemu.sidebyside import layout
from qemu.upgrade import upgrade

BOOT_TIMEOUT = 180.0
UPGRADE_TIMEOUT = 180.0
DISK_SIZE = "256M"
MODULES = "nvme ext4"
FSTAB = """/run/molt/store/var /var none bind 0 0
/run/molt/store/images /var/lib/molt/images none bind 0 0
"""

INITRAMFS = """#!/bin/sh
export PATH=/bin MOLT_STORE=/state/images
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs run /run
until [ -b /dev/nvme0n1 ]; do sleep 0.05; done
mkdir /state
mount -t ext4 /dev/nvme0n1 /state
image=$(sh /usr/sbin/molt-image choose) || exec sh
echo "the initramfs boots ${image##*/}"
mount --bind $image /root
mount --bind /state/var /root/var
mount --bind /state/images /root/var/lib/molt/images
umount -l /state
for d in proc sys dev run; do mount --move /$d /root/$d; done
exec switch_root /root /sbin/init
"""


def run(at: Path, build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    ramdisk.pack(_initramfs(at / "initramfs"), at / "initrd")
    _tell(Config(_kernel().image, [_disk(at, build, "")], initrd=at / "initrd", append="rdinit=/init"),
          log / "asked")


def run_own(at: Path, build: Path, log: Path) -> None:
    """The same of molt's own, which leaves the disk mounted; the image has the rest in its fstab."""
    initramfs.write(at / "initrd", _kernel(), build, modules=MODULES, load=MODULES,
                    **{"molt-image": str(layout.TOOL)})
    _tell(Config(_kernel().image, [_disk(at, build, FSTAB)], initrd=at / "initrd",
                 append="root=/dev/nvme0n1 molt.images=/images panic=-1"), log / "chosen")


def _kernel() -> kernel.Kernel:
    deps.ensure()
    suite = Suite(KERNEL_SUITE, CACHE / "apt" / KERNEL_SUITE)
    suite.refresh()
    return kernel.get(suite, CACHE)


def _tell(config: Config, log: Path) -> None:
    _first_boot(config, log)
    _second_boot(config, log)
    _third_fails(config, log)
    _back_to_second(config, log)


def _log(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}-{number}.log")


def _first_boot(config: Config, log: Path) -> None:
    with Machine(config, _log(log, 1)) as vm:
        guest = _booted(vm, "one")
        done = upgrade(guest, "/var/lib/molt/images/two", UPGRADE_TIMEOUT)
        assert (done.code, done.text) == (0, "committed"), done
    # The plug was pulled: nothing but the hook's own flush has reached the disk for certain.


def _second_boot(config: Config, log: Path) -> None:
    with Machine(config, _log(log, 2)) as vm:
        guest = _booted(vm, "two")
        assert guest.check("cat /var/lib/molt/images/boot") == "two good\none good"
        guest.check("molt-image default three")


def _third_fails(config: Config, log: Path) -> None:
    with Machine(config, _log(log, 3)) as vm:
        vm.console.expect("this image panics", BOOT_TIMEOUT)
        assert vm.wait_off(BOOT_TIMEOUT) == "guest-reset"  # panic=-1


def _back_to_second(config: Config, log: Path) -> None:
    with Machine(config, _log(log, 4)) as vm:
        guest = _booted(vm, "two")
        assert guest.check("molt-image list") == "one previous\nthree bad\ntwo running default"


def _booted(vm: Machine, version: str) -> Guest:
    """Up, and found good."""
    guest = Guest(vm)
    guest.wait_booted(BOOT_TIMEOUT)
    guest.check(f"grep -qx IMAGE_VERSION={version} /etc/os-release")
    guest.wait_until("grep -q 'the boot is good' /run/molt/init.log", BOOT_TIMEOUT, "a good boot")
    return guest


def _disk(at: Path, build: Path, fstab: str) -> Path:
    """Images in directories beside what is state: an ext4 has no subvolumes."""
    disk, state = at / "disk", at / "state"
    tree = layout.system(at / "tree", build)
    (tree / "etc/molt/image.conf").write_text("Loader=molt\nTries=1\n")
    (tree / "etc/fstab").write_text(fstab)
    (state / "images").mkdir(parents=True)
    for directory in ("lib/molt/images", "log"):
        (state / "var" / directory).mkdir(parents=True)
    for version in ("one", "two", "three"):
        root = state / "images" / version
        shutil.copytree(tree, root, symlinks=True)
        (root / "etc/os-release").write_text(f"ID=molt\nIMAGE_VERSION={version}\n")
    layout.variant(state / "images/three", layout.PANICS)
    (state / "images/boot").write_text("one good\n")
    child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-d", str(state), str(disk), DISK_SIZE])
    return disk


def _initramfs(root: Path) -> Path:
    foreign.lay_out(root, "amd64", Path(deps.tool("busybox")))
    layout.add_tool(root)
    init = root / "init"
    init.write_text(INITRAMFS)
    init.chmod(init.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return root
