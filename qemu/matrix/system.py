# SPDX-License-Identifier: MIT
"""The disks of one kind of root: two images of a small system, /var and /home.

    one    the image that is booted      var    /var
    two    the one to go to              home   /home
    hash1, hash2  hashes of both, where there is dm-verity
    boot   the kernel and its initramfs, for kexec

These are the serial numbers of the disks: `disk two` in the guest prints the path of that one. Which
numbers the kernel gives them is a matter of luck with some drivers.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from qemu import child, deps, ramdisk
from qemu.board import BOARDS
from qemu.lab import LAB, REPOSITORY, write_layer
from qemu.matrix import modules
from qemu.matrix.cells import ARCHITECTURES, PLAIN_ROOT, Cell

PLACE = "/opt/place"  # a directory of the image for processes to be in
DEFAULT = "/default"  # of /var: the version to boot next
STOP_SECONDS = 10
WATCHDOG_SECONDS = 15

FILES = {
    "etc/molt/init.conf": f"""[Boot]
Services=agent.service network.service probe.service web.service stream.service
[Manager]
DefaultTimeoutStopSec={STOP_SECONDS}
RuntimeWatchdogSec={WATCHDOG_SECONDS}
RebootWatchdogSec=120
[Upgrade]
FreezeTimeoutSec=20
BlackoutTimeoutSec=60
CheckTimeoutSec=600
""",
    "etc/molt/system/agent.service": f"""[Service]
ExecStart=/{LAB}/agent /dev/@agent@
Restart=always
[Upgrade]
Policy=keep
""",
    "etc/molt/system/network.service": f"""[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/{LAB}/network-up
[Upgrade]
Policy=keep
""",
    "etc/molt/system/probe.service": f"""[Service]
Type=forking
PIDFile=/run/probe.pid
ExecStart=/{LAB}/probe
[Upgrade]
Policy=restart
ReadyTimeoutSec=120
""",
    "etc/molt/system/web.service": f"""[Unit]
After=network.service
[Service]
Type=notify
ExecStart=/{LAB}/web
[Socket]
ListenStream=8080
[Upgrade]
Policy=handover
""",
    "etc/molt/system/stream.service": f"""[Unit]
After=network.service
[Service]
ExecStart=/{LAB}/stream 9000 40
[Upgrade]
Policy=keep
""",
    # For a person; there is no getty, since nobody logs in but the agent.
    "etc/molt/system/console.service": """[Service]
ExecStart=/bin/sh -c 'exec sh -i <>/dev/$(cat /sys/class/tty/console/active) >&0 2>&1'
Restart=always
IgnoreSIGPIPE=no
[Upgrade]
Policy=keep
""",
    "etc/molt/system/hog.service": """[Service]
ExecStart=/bin/tail /dev/zero
OOMScoreAdjust=1000
""",
    # Whatever happens while this runs, there is one name or the other in the file.
    "etc/molt/commit.d/default": """#!/bin/sh
. /etc/os-release
echo "$VERSION_ID" > /var/default.new && sync && mv /var/default.new /var/default && sync
""",
    f"{LAB}/network-up": """#!/bin/sh
modprobe -a virtio_pci virtio_net 2>/dev/null
ip link set lo up
for last in 15 16 17 18 19 20 21 22; do ip address add 10.0.2.$last/24 dev eth0; done
ip link set eth0 up
ip route add default via 10.0.2.2
exit 0
""",
    f"{LAB}/probe": "#!/bin/sh\nsleep 100000 &\necho $! > /run/probe.pid\n",
    f"{LAB}/disk": """#!/bin/sh
for block in /sys/block/vd*; do [ "$(cat $block/serial)" = "$1" ] && exec echo /dev/${block##*/}; done
echo "there is no disk $1" >&2
exit 1
""",
    # Without an initramfs nobody has loaded them yet.
    "etc/modules-load.d/disks.conf": "virtio_pci\nvirtio_blk\n",
    "etc/fstab": """LABEL=var  /var  ext4  rw,nosuid,nodev  0 0
LABEL=home /home ext4  rw,nosuid,nodev  0 0
tmpfs        /tmp  tmpfs rw,nosuid,nodev,mode=1777,size=64m 0 0
""",
    "etc/machine-id": "",  # a place for one that is made at boot
    "etc/os-release": 'PRETTY_NAME="@version@"\nVERSION_ID=@version@\n',
    **{f"{PLACE[1:]}/file-{n}": "@version@\n" for n in range(4)},
}
VERSIONS = ("one", "two")
SERVICES = ("agent", "probe", "web", "stream")

# Of the guest itself, whatever its root is.
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "overlay", "squashfs", "erofs", "btrfs", "loop",
           "unix_diag", "ext4", "crc32c_generic", "dm-verity", "i6300esb", "softdog"]
# Of every initramfs.
EARLY_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"]

SIZE = "128M"
DISK = f"/{LAB}/disk"
HASH_UUID = "6d6f6c74-0000-4000-9000-00000000000{}"  # of the hashes of an image


@dataclass(frozen=True)
class Kind:
    """`root` is for the kernel's command line, `new` a script in the guest that brings the second image
    to /new; `image` is what is given to `initctl upgrade`. @HASH1@ and @HASH2@ are the root hashes."""

    root: str
    new: str = f"mount -o ro $({DISK} two) /new"
    file_system: str = "ext4"  # of the disks with the images
    modules: list[str] = field(default_factory=list)  # of the initramfs
    image: str = "/new"


COPY = """mount -t ext4 -o ro {1} {0}
mount -t tmpfs -o mode=755 image {2}
cp -a {0}/. {2}
umount {0}"""
# Of these there are two, by the last digit: the first image and the second.
UUID = "6d6f6c74-0000-4000-8000-00000000000{}"
BY_UUID = f"root=UUID={UUID.format(1)} rootfstype="
# Disks that have nothing that tells them apart from outside are taken by their place on the bus.
FIRST = "root=/dev/vda rootfstype=squashfs"

KINDS = {
    "nvme": Kind("root=/dev/nvme0n1 rootfstype=ext4"),
    "ext4": Kind(f"{BY_UUID}ext4"),
    "btrfs": Kind(f"{BY_UUID}btrfs rootflags=subvol=one",
                  f"mount -t btrfs -o ro,subvol=two $({DISK} one) /new", "btrfs", ["btrfs"]),
    "squashfs": Kind(f"{FIRST} molt.overlay=tmpfs", f"""mkdir -p /run/two
mount -t tmpfs /run/two /run/two
mkdir /run/two/lower /run/two/upper /run/two/work
mount -t squashfs -o ro $({DISK} two) /run/two/lower
mount -t overlay -o lowerdir=/run/two/lower,upperdir=/run/two/upper,workdir=/run/two/work overlay /new""",
                     "squashfs", ["squashfs", "overlay"]),
    "erofs": Kind(f"{BY_UUID}erofs", file_system="erofs", modules=["erofs"]),
    "verity": Kind(f"{FIRST} roothash=@HASH1@ molt.verity_hash=UUID={HASH_UUID.format(1)}",
                   ":", "squashfs", ["squashfs", "dm-verity", "sha256_generic"],
                   f"--verity-hash=$({DISK} hash2) --root-hash=@HASH2@ $({DISK} two)"),
    "tmpfs": Kind("", "mkdir -p /run/two\n" + COPY.format("/run/two", f"$({DISK} two)", "/new")),
    "initramfs": Kind("rdinit=/sbin/init"),
}

# Of the initramfs that fills a tmpfs, as an image that comes over a network does; every other is
# molt's own (molt-initramfs(8)).
EARLY = """#!/bin/sh
export PATH=/bin:/sbin
mkdir -p /proc /sys /dev /run /root /aside
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid devtmpfs /dev
mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
for module in /modules/*; do [ -e $module ] && insmod $module; done
until [ -b /dev/vda ]; do sleep 0.05; done
set -e
{mount}
for d in proc sys dev run; do mount --move /$d /root/$d; done
exec switch_root /root /sbin/init "$@"
"""


@dataclass
class Disks:
    """What a machine needs of it. All paths are texts: this goes through a file."""

    images: dict[str, str]  # serial number -> file; never written to
    state: dict[str, str]  # the same of those that are
    initrd: str
    root: str  # for the kernel's command line
    new: str
    image: str


def make(cell: Cell, system: Path, directory: Path, linux: Path, kernel_modules: Path) -> Disks:
    """Writes all of them into the directory, which is there. `linux` is the kernel's image."""
    kind = KINDS[cell.root]
    board = BOARDS[ARCHITECTURES[cell.architecture]]
    trees = [_tree(system, directory, version, board.agent, kernel_modules) for version in VERSIONS]
    state = directory / "state"
    (state / "lib/molt").mkdir(parents=True)
    for name, size in (("var", "96M"), ("home", "32M")):
        _ext4(directory / name, state if name == "var" else None, size, ["-L", name])
    images = {version: directory / version for version in VERSIONS}
    if kind.file_system == "btrfs":
        _btrfs(images["one"], trees, directory / "top")
        del images["two"]
    else:
        for number, (tree, version) in enumerate(zip(trees, VERSIONS), start=1):
            _write(kind.file_system, tree, images[version], UUID.format(number))
    hashes = {}
    if cell.root == "verity":
        for number, version in enumerate(VERSIONS, start=1):
            images[f"hash{number}"] = directory / f"hash{number}"
            hashes[f"@HASH{number}@"] = _verity(images[version], images[f"hash{number}"],
                                                HASH_UUID.format(number))
    initrd = directory / "initrd"
    _initrd(cell, kind, system, trees[0], initrd, kernel_modules)
    if cell.root == PLAIN_ROOT:
        images["boot"] = directory / "boot"
        _boot(images["boot"], linux, initrd)
    for tree in (*trees, state):
        shutil.rmtree(tree)
    return Disks({name: str(path) for name, path in images.items()},
                 {name: str(directory / name) for name in ("var", "home")},
                 str(initrd) if initrd.exists() else "", _filled(kind.root, hashes),
                 _filled(kind.new, hashes), _filled(kind.image, hashes))


def _tree(system: Path, directory: Path, version: str, agent: str, kernel_modules: Path) -> Path:
    tree = directory / f"tree-{version}"
    child.check(["cp", "-a", "--reflink=auto", str(system), str(tree)])
    (tree / "home").mkdir(exist_ok=True)
    write_layer(tree, {name: text.replace("@agent@", agent).replace("@version@", version)
                       for name, text in FILES.items()})
    modules.install(kernel_modules, MODULES, tree)
    return tree


def _boot(disk: Path, linux: Path, initrd: Path) -> None:
    """For kexec."""
    tree = disk.with_name("boot-tree")
    tree.mkdir()
    shutil.copy2(linux, tree / "vmlinuz")
    shutil.copy2(initrd, tree / "initrd")
    _ext4(disk, tree, "160M", ["-O", "^has_journal"])
    shutil.rmtree(tree)


def _ext4(disk: Path, tree: Path | None, size: str, options: list[str]) -> None:
    child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-E", "lazy_itable_init=1,root_owner=0:0",
                 *options, *(["-d", str(tree)] if tree else []), str(disk), size])


def _write(file_system: str, tree: Path, disk: Path, uuid: str) -> None:
    if file_system == "squashfs":
        child.check(["mksquashfs", str(tree), str(disk), "-quiet", "-no-progress", "-all-root",
                     "-comp", "zstd", "-Xcompression-level", "1"])
    elif file_system == "erofs":
        child.check(["mkfs.erofs", "--quiet", "--all-root", "-U", uuid, str(disk), str(tree)])
    else:
        _ext4(disk, tree, SIZE, ["-O", "^has_journal", "-U", uuid])


def _btrfs(disk: Path, trees: list[Path], top: Path) -> None:
    with disk.open("wb") as file:
        file.truncate(512 << 20)
    child.check([deps.tool("mkfs.btrfs"), "-q", "-U", UUID.format(1), str(disk)])
    top.mkdir()
    child.check(["mount", "-o", "loop", str(disk), str(top)])
    try:
        for tree, version in zip(trees, VERSIONS):
            child.check([deps.tool("btrfs"), "subvolume", "create", str(top / version)])
            child.check(["cp", "-a", f"{tree}/.", str(top / version)])
    finally:
        child.check(["umount", str(top)])


def _verity(disk: Path, hashes: Path, uuid: str) -> str:
    run = child.run([deps.tool("veritysetup"), "format", f"--uuid={uuid}", str(disk), str(hashes)])
    found = re.search(r"^Root hash:\s+([0-9a-f]+)$", run.stdout, re.MULTILINE)
    if not found:
        raise RuntimeError(f"veritysetup: {run.stderr}")
    return found.group(1)


def _initrd(cell: Cell, kind: Kind, system: Path, first: Path, initrd: Path,
            kernel_modules: Path) -> None:
    """Writes it, if there is to be one."""
    if cell.root == "initramfs":
        ramdisk.pack(first, initrd)
    elif cell.root == "tmpfs":
        _filling(system, initrd, kernel_modules)
    elif cell.root != "nvme":
        _of_molt(kind, system, initrd, kernel_modules)


def _of_molt(kind: Kind, system: Path, initrd: Path, kernel_modules: Path) -> None:
    child.check([str(REPOSITORY / "conf/initramfs/molt-initramfs"), "--quiet",
                 "--kernel", kernel_modules.name, "--modules-root", str(kernel_modules.parent),
                 "--modules", " ".join(modules.there(kernel_modules, [*EARLY_MODULES, *kind.modules])),
                 "--molt", str(system / "usr/sbin/molt"), "--busybox", str(system / "bin/busybox"),
                 "--libraries", str(system / "lib"), "--compress", "none", "--output", str(initrd)])


def _filling(system: Path, initrd: Path, kernel_modules: Path) -> None:
    tree = initrd.with_name("early")
    (tree / "bin").mkdir(parents=True)
    shutil.copy2(system / "bin/busybox", tree / "bin/busybox")
    for applet in (system / "bin").iterdir():
        if applet.is_symlink():
            (tree / "bin" / applet.name).symlink_to(os.readlink(applet))
    (tree / "modules").mkdir()
    for number, module in enumerate(modules.closure(kernel_modules, EARLY_MODULES)):
        name = f"{number:02}-{module.name.partition('.ko')[0]}.ko"
        (tree / "modules" / name).write_bytes(modules.unpacked(module))
    write_layer(tree, {"init": EARLY.format(mount=COPY.format("/aside", "/dev/vda", "/root"))})
    ramdisk.pack(tree, initrd)
    shutil.rmtree(tree)


def _filled(text: str, hashes: dict[str, str]) -> str:
    for name, value in hashes.items():
        text = text.replace(name, value)
    return text
