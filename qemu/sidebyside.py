# SPDX-License-Identifier: MIT
"""Several images side by side on one disk, and the one that was committed boots (docs/image-layout.md).

    python3 -m qemu.sidebyside --build build

One is booted and upgraded to two, and the plug is pulled after the commit: two boots. Three is made
the default, and its init ends at once: after its one try two boots again. The initramfs asks
`molt-image choose`, as it is shipped, with nothing but busybox.
"""

from __future__ import annotations

import argparse
import shutil
import stat
import tempfile
from pathlib import Path

from qemu import child, deps, foreign, kernel, ramdisk
from qemu.guest import Guest
from qemu.lab import CACHE, KERNEL_SUITE, LAB, REPOSITORY
from qemu.machine import Config, Machine
from qemu.packages import Suite
from qemu.upgrade import upgrade

BOOT_TIMEOUT = 180.0
UPGRADE_TIMEOUT = 180.0
DISK_SIZE = "256M"

INITRAMFS = """#!/bin/sh
export PATH=/bin MOLT_STORE=/state/images MOLT_IMAGE_LIBRARY=/image
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs run /run
until [ -b /dev/nvme0n1 ]; do sleep 0.05; done
mkdir /state
mount -t ext4 /dev/nvme0n1 /state
image=$(sh /image/molt-image choose) || exec sh
echo "the initramfs boots ${image##*/}"
mount --bind $image /root
mount --bind /state/var /root/var
mount --bind /state/images /root/var/lib/molt/images
umount -l /state
for d in proc sys dev run; do mount --move /$d /root/$d; done
exec switch_root /root /sbin/init
"""
FILES = {
    "etc/molt/init.conf": "[Boot]\nServices=agent.service\n[Upgrade]\nFreezeTimeoutSec=20\nBlackoutTimeoutSec=60\n"
                          "CheckTimeoutSec=120\nExecTimeoutSec=60\n",
    "etc/molt/system/agent.service": f"[Service]\nExecStart=/{LAB}/agent /dev/ttyS1\n[Upgrade]\nPolicy=keep\n",
    "etc/molt/image.conf": "Loader=molt\nTries=1\n",
    "etc/fstab": "",
    "etc/os-release": "ID=molt\n",
}


def run(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    deps.ensure()
    log.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="molt-sidebyside-") as work:
        at = Path(work)
        suite = Suite(KERNEL_SUITE, CACHE / "apt" / KERNEL_SUITE)
        suite.refresh()
        config = Config(kernel.get(suite, CACHE).image, [_disk(at, build)], initrd=at / "initrd",
                        append="rdinit=/init")
        ramdisk.pack(_initramfs(at / "initramfs"), at / "initrd")
        _first_boot(config, log)
        _second_boot(config, log)
        _third_fails(config, log)
        _back_to_second(config, log)


def _first_boot(config: Config, log: Path) -> None:
    with Machine(config, log / "1.log") as vm:
        guest = _booted(vm, "one")
        done = upgrade(guest, "/var/lib/molt/images/two", UPGRADE_TIMEOUT)
        assert (done.code, done.text) == (0, "committed"), done
    # The plug was pulled: nothing but the hook's own flush has reached the disk for certain.


def _second_boot(config: Config, log: Path) -> None:
    with Machine(config, log / "2.log") as vm:
        guest = _booted(vm, "two")
        assert guest.check("cat /var/lib/molt/images/boot") == "two good\none good"
        guest.check("molt-image default three")


def _third_fails(config: Config, log: Path) -> None:
    with Machine(config, log / "3.log") as vm:
        vm.console.expect("the initramfs boots three", BOOT_TIMEOUT)
        assert vm.wait_off(BOOT_TIMEOUT) == "guest-reset"  # panic=-1


def _back_to_second(config: Config, log: Path) -> None:
    with Machine(config, log / "4.log") as vm:
        guest = _booted(vm, "two")
        assert guest.check("molt-image list") == "one previous\nthree bad\ntwo running default"


def _booted(vm: Machine, version: str) -> Guest:
    """Up, and found good."""
    guest = Guest(vm)
    guest.wait_booted(BOOT_TIMEOUT)
    guest.check(f"grep -qx IMAGE_VERSION={version} /etc/os-release")
    guest.wait_until("grep -q 'the boot is good' /run/molt/init.log", BOOT_TIMEOUT, "a good boot")
    return guest


def _disk(at: Path, build: Path) -> Path:
    """Images in directories beside what is state: an ext4 has no subvolumes."""
    disk, state = at / "disk", at / "state"
    tree = _tree(at / "tree", build)
    (state / "images").mkdir(parents=True)
    for directory in ("lib/molt/images", "log"):
        (state / "var" / directory).mkdir(parents=True)
    for version in ("one", "two", "three"):
        root = state / "images" / version
        shutil.copytree(tree, root, symlinks=True)
        (root / "etc/os-release").write_text(f"ID=molt\nIMAGE_VERSION={version}\n")
    broken = state / "images/three/sbin/init"
    broken.unlink()
    broken.write_text("#!/bin/sh\necho no init\nexit 1\n")
    broken.chmod(0o755)
    (state / "images/boot").write_text("one good\n")
    child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-d", str(state), str(disk), DISK_SIZE])
    return disk


def _tree(root: Path, build: Path) -> Path:
    foreign.lay_out(root, "amd64", Path(deps.tool("busybox")))
    programs = {"molt": "usr/sbin", "initctl": "usr/bin", "tools/agent": LAB}
    placed = []
    for name, directory in programs.items():
        (root / directory).mkdir(parents=True, exist_ok=True)
        placed.append(Path(shutil.copy2(build / name, root / directory)))
    (root / "sbin/init").symlink_to("../usr/sbin/molt")
    foreign.add_libraries(root, "amd64", placed)
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    _add_tool(root / "usr/lib/molt/image")
    shutil.copy2(REPOSITORY / "conf/image/molt-image", root / "usr/sbin")
    for hook in (REPOSITORY / "conf/hooks").glob("*/*"):
        place = root / "usr/lib/molt" / hook.parent.name
        place.mkdir(exist_ok=True)
        shutil.copy2(hook, place)
    return root


def _add_tool(directory: Path) -> None:
    directory.mkdir(parents=True)
    for part in (REPOSITORY / "conf/image").glob("*.sh"):
        shutil.copy2(part, directory)


def _initramfs(root: Path) -> Path:
    foreign.lay_out(root, "amd64", Path(deps.tool("busybox")))
    _add_tool(root / "image")
    shutil.copy2(REPOSITORY / "conf/image/molt-image", root / "image")
    init = root / "init"
    init.write_text(INITRAMFS)
    init.chmod(init.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(prog="qemu.sidebyside")
    parser.add_argument("--build", type=Path, default=Path("build"))
    options = parser.parse_args()
    child.exit_on_signals()
    run(options.build, options.build / "sidebyside")


if __name__ == "__main__":
    main()
