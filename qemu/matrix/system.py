# SPDX-License-Identifier: MIT
"""The disks of one cell: two images of a small system, of the kind the cell asks for, /var and /home.

    nvme0n1  the image that is booted      nvme0n3  /var
    nvme0n2  the one to go to              nvme0n4  /home
    nvme0n5, n6  hashes of both, where there is dm-verity
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from qemu import child, deps, ramdisk
from qemu.board import BOARDS
from qemu.lab import LAB, write_layer
from qemu.matrix import modules
from qemu.matrix.cells import ARCHITECTURES, Cell

PLACE = "/opt/place"  # a directory of the image for processes to be in
STOP_SECONDS = 10

FILES = {
    "etc/molt/init.conf": f"""[Boot]
Services=agent.service network.service probe.service web.service stream.service
[Manager]
DefaultTimeoutStopSec={STOP_SECONDS}
[Upgrade]
FreezeTimeoutSec=20
BlackoutTimeoutSec=60
CheckTimeoutSec=120
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
    "etc/fstab": """/dev/nvme0n3 /var  ext4  rw,nosuid,nodev  0 0
/dev/nvme0n4 /home ext4  rw,nosuid,nodev  0 0
tmpfs        /tmp  tmpfs rw,nosuid,nodev,mode=1777,size=64m 0 0
""",
    "etc/os-release": 'PRETTY_NAME="@version@"\nVERSION_ID=@version@\n',
    **{f"{PLACE[1:]}/file-{n}": "@version@\n" for n in range(4)},
}
VERSIONS = ("one", "two")
SERVICES = ("agent", "probe", "web", "stream")

# Of the guest itself, whatever its root is.
MODULES = ["virtio_pci", "virtio_net", "overlay", "squashfs", "erofs", "btrfs", "loop", "unix_diag",
           "nvme", "ext4", "crc32c_generic", "dm-verity"]

SIZE = "128M"


@dataclass(frozen=True)
class Kind:
    """`mount` is a script in an initramfs that has the root on /root in the end ("": there is none),
    `new` one in the guest that brings the second image to /new. `image` is what is given to `initctl
    upgrade`. @HASH1@ and @HASH2@ are the root hashes."""

    mount: str
    new: str
    file_system: str = "ext4"  # of the disks with the images
    modules: list[str] = field(default_factory=list)
    image: str = "/new"


OVERLAY = """mount -t tmpfs {0} {0}
mkdir {0}/lower {0}/upper {0}/work
mount -t squashfs -o ro {1} {0}/lower
mount -t overlay -o lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work overlay {2}"""
COPY = """mount -t ext4 -o ro {1} {0}
mount -t tmpfs -o mode=755 image {2}
cp -a {0}/. {2}
umount {0}"""
FIRST, SECOND = "/dev/nvme0n1", "/dev/nvme0n2"

KINDS = {
    "nvme": Kind("", f"mount -o ro {SECOND} /new"),
    "ext4": Kind(f"mount -t ext4 -o ro {FIRST} /root", f"mount -o ro {SECOND} /new"),
    "btrfs": Kind(f"mount -t btrfs -o ro,subvol=one {FIRST} /root",
                  f"mount -t btrfs -o ro,subvol=two {FIRST} /new", "btrfs", ["btrfs"]),
    "squashfs": Kind(OVERLAY.format("/aside", FIRST, "/root"),
                     "mkdir -p /run/two\n" + OVERLAY.format("/run/two", SECOND, "/new"),
                     "squashfs", ["squashfs", "overlay"]),
    "erofs": Kind(f"mount -t erofs -o ro {FIRST} /root", f"mount -t erofs -o ro {SECOND} /new",
                  "erofs", ["erofs"]),
    "verity": Kind(f"veritysetup open {FIRST} one /dev/nvme0n5 @HASH1@\n"
                   "mount -t squashfs -o ro /dev/mapper/one /root",
                   ":", "squashfs", ["squashfs", "dm-verity", "sha256_generic"],
                   f"--verity-hash=/dev/nvme0n6 --root-hash=@HASH2@ {SECOND}"),
    "tmpfs": Kind(COPY.format("/aside", FIRST, "/root"),
                  "mkdir -p /run/two\n" + COPY.format("/run/two", SECOND, "/new")),
    "initramfs": Kind("", f"mount -o ro {SECOND} /new"),
}

EARLY = """#!/bin/sh
export PATH=/bin:/sbin DM_DISABLE_UDEV=1
mkdir -p /proc /sys /dev /run /root /aside
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid devtmpfs /dev
mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
for module in /modules/*; do [ -e $module ] && insmod $module; done
until [ -b /dev/nvme0n4 ]; do sleep 0.05; done
set -e
{mount}
for d in proc sys dev run; do mount --move /$d /root/$d; done
exec switch_root /root /sbin/init "$@"
"""


@dataclass
class Disks:
    """What a machine needs of it."""

    disks: list[Path]
    initrd: Path | None
    new: str
    image: str
    append: str = ""


def make(cell: Cell, system: Path, directory: Path, kernel_modules: Path) -> Disks:
    """Writes all of them into the directory, which is there."""
    kind = KINDS[cell.root]
    board = BOARDS[ARCHITECTURES[cell.architecture]]
    trees = [_tree(system, directory, version, board.agent, kernel_modules) for version in VERSIONS]
    state = directory / "state"
    (state / "lib/molt").mkdir(parents=True)
    var, home = directory / "var.ext4", directory / "home.ext4"
    for disk, size in ((var, "96M"), (home, "32M")):
        _ext4(disk, state if disk is var else None, size)
    disks = [directory / version for version in VERSIONS]
    hashes = {}
    if kind.file_system == "btrfs":
        _btrfs(disks[0], trees, directory / "top")
        _ext4(disks[1], None, "32M")
    else:
        for tree, disk in zip(trees, disks):
            _write(kind.file_system, tree, disk)
    disks += [var, home]
    if cell.root == "verity":
        for n in (1, 2):
            tree_file = directory / f"hash{n}"
            hashes[f"@HASH{n}@"] = _verity(disks[n - 1], tree_file)
            disks.append(tree_file)
    initrd, append = _initrd(cell, kind, system, trees[0], directory, kernel_modules, hashes)
    for tree in trees:
        shutil.rmtree(tree)
    return Disks(disks, initrd, _filled(kind.new, hashes), _filled(kind.image, hashes), append)


def _tree(system: Path, directory: Path, version: str, agent: str, kernel_modules: Path) -> Path:
    tree = directory / f"tree-{version}"
    child.check(["cp", "-a", "--reflink=auto", str(system), str(tree)])
    (tree / "home").mkdir(exist_ok=True)
    write_layer(tree, {name: text.replace("@agent@", agent).replace("@version@", version)
                       for name, text in FILES.items()})
    modules.install(kernel_modules, MODULES, tree)
    return tree


def _ext4(disk: Path, tree: Path | None, size: str) -> None:
    command = ["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1,root_owner=0:0"]
    if tree:
        command += ["-d", str(tree)]
    child.check([deps.tool(command[0]), *command[1:], str(disk), size])


def _write(file_system: str, tree: Path, disk: Path) -> None:
    if file_system == "squashfs":
        child.check(["mksquashfs", str(tree), str(disk), "-quiet", "-no-progress", "-all-root",
                     "-comp", "zstd", "-Xcompression-level", "1"])
    elif file_system == "erofs":
        child.check(["mkfs.erofs", "--quiet", "--all-root", str(disk), str(tree)])
    else:
        child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-d", str(tree), "-O", "^has_journal",
                     "-E", "lazy_itable_init=1,root_owner=0:0", str(disk), SIZE])


def _btrfs(disk: Path, trees: list[Path], top: Path) -> None:
    with disk.open("wb") as file:
        file.truncate(512 << 20)
    child.check([deps.tool("mkfs.btrfs"), "-q", str(disk)])
    top.mkdir()
    child.check(["mount", "-o", "loop", str(disk), str(top)])
    try:
        for tree, version in zip(trees, VERSIONS):
            child.check([deps.tool("btrfs"), "subvolume", "create", str(top / version)])
            child.check(["cp", "-a", f"{tree}/.", str(top / version)])
    finally:
        child.check(["umount", str(top)])


def _verity(disk: Path, hashes: Path) -> str:
    run = child.run([deps.tool("veritysetup"), "format", str(disk), str(hashes)])
    found = re.search(r"^Root hash:\s+([0-9a-f]+)$", run.stdout, re.MULTILINE)
    if not found:
        raise RuntimeError(f"veritysetup: {run.stderr}")
    return found.group(1)


def _initrd(cell: Cell, kind: Kind, system: Path, first: Path, directory: Path,
            kernel_modules: Path, hashes: dict[str, str]) -> tuple[Path | None, str]:
    """And what the kernel's command line needs for it."""
    if not kind.mount and cell.root != "initramfs":
        return None, ""
    initrd = directory / "initrd"
    if cell.root == "initramfs":
        ramdisk.pack(first, initrd)
        return initrd, "rdinit=/sbin/init"
    tree = directory / "early"
    (tree / "bin").mkdir(parents=True)
    shutil.copy2(system / "bin/busybox", tree / "bin/busybox")
    for applet in (system / "bin").iterdir():
        if applet.is_symlink():
            (tree / "bin" / applet.name).symlink_to("busybox")
    if cell.root == "verity":
        for place in ("lib", "lib64"):
            shutil.copytree(system / place, tree / place, symlinks=True)
        (tree / "sbin").mkdir()
        shutil.copy2(system / "sbin/veritysetup", tree / "sbin/veritysetup")
    (tree / "modules").mkdir()
    for n, module in enumerate(modules.closure(kernel_modules, ["nvme", "ext4", "crc32c_generic",
                                                                *kind.modules])):
        name = f"{n:02}-{module.name.partition('.ko')[0]}.ko"
        (tree / "modules" / name).write_bytes(modules.unpacked(module))
    write_layer(tree, {"init": EARLY.format(mount=_filled(kind.mount, hashes))})
    ramdisk.pack(tree, initrd)
    return initrd, ""


def _filled(text: str, hashes: dict[str, str]) -> str:
    for name, value in hashes.items():
        text = text.replace(name, value)
    return text
