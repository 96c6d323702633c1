# SPDX-License-Identifier: MIT
"""molt as /init: the initramfs that conf/mkinitramfs makes, and a root that it finds on its own.

The root is a squashfs with hashes of its own and nothing of Debian in it, below an overlay: molt,
busybox and the agent. It comes up in a few seconds.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps
from qemu.guest import Guest
from qemu.lab import LAB, REPOSITORY, Room
from qemu.machine import Config, Machine

BOOT_TIMEOUT = 120.0
MISSING = "UUID=00000000-dead-beef-0000-000000000000"

AGENT = """[Service]
ExecStart=/usr/libexec/molt-lab/agent /dev/ttyS1
"""


def make(room: Room, path: Path) -> None:
    """Writes an initramfs for the room's kernel."""
    child.check([str(REPOSITORY / "conf/mkinitramfs"), "--kernel", str(room.kernel.image),
                 "--modules-root", str(room.kernel.layer / "usr/lib/modules"),
                 "--molt", str(room.build / "molt"), "--busybox", deps.tool("busybox"),
                 "--modules", "dm-mod dm-verity squashfs overlay ext4 loop", "--compress", "none",
                 "--output", str(path)])


@dataclass(frozen=True)
class Verified:
    """A squashfs, and a disk with its hashes."""

    data: Path
    hashes: Path
    root_hash: str


def verified_root(room: Room, initrd: Path) -> Verified:
    """A root of what is in the initramfs already, and the agent."""
    tree = room.directory / "verified"
    tree.mkdir()
    with initrd.open("rb") as file:
        child.check([deps.tool("busybox"), "cpio", "-i", "-d", "-m"], cwd=tree, stdin=file)
    (tree / "init").unlink()
    (tree / "etc/initrd-release").unlink()
    (tree / "usr/sbin/init").symlink_to("molt")
    shutil.copy2(room.build / "initctl", tree / "usr/bin/initctl")
    (tree / LAB).mkdir(parents=True)
    shutil.copy2(room.build / "tools/agent", tree / LAB / "agent")
    (tree / "etc/molt/system").mkdir()
    (tree / "etc/molt/system/agent.service").write_text(AGENT)
    (tree / "etc/molt/init.conf").write_text("[Boot]\nServices=agent.service\n")
    for name in ("mountpoint", "head", "grep", "wc", "cut", "awk", "test", "["):
        link = tree / "usr/bin" / name
        if not link.is_symlink():
            link.symlink_to("busybox")
    data, hashes = room.directory / "verified.squashfs", room.directory / "verified.hashes"
    child.check(["mksquashfs", str(tree), str(data), "-quiet", "-no-progress", "-noI", "-noD", "-noF",
                 "-noX", "-all-root"])
    said = child.run([deps.tool("veritysetup"), "format", str(data), str(hashes)])
    found = re.search(r"^Root hash:\s*([0-9a-f]+)$", said.stdout, re.M)
    if not found:
        raise RuntimeError(f"veritysetup made no hashes: {said.stderr.strip()}")
    return Verified(data, hashes, found.group(1))


def other_roots(room: Room, initrd: Path) -> None:
    """A root that does not come: the shell says what was looked for, and takes what a person mounts.
    And a squashfs behind dm-verity, with a tmpfs over it."""
    image = verified_root(room, initrd)
    verity = (f"root=/dev/nvme0n1 rootfstype=squashfs roothash={image.root_hash} "
              "molt.verity_hash=/dev/nvme0n2 molt.overlay=tmpfs rd.shell rootdelay=20")
    wrong = f"root={MISSING} rootdelay=1 rd.shell"
    other = room.directory / "other.squashfs"  # QEMU locks its disks
    shutil.copy2(image.data, other)
    with _machine(room, initrd, [other], wrong, "missing-root") as lost, \
            _machine(room, initrd, [image.data, image.hashes], verity, "verified-root") as found:
        _expect_shell(lost)
        _look_at_verified(found)


def _machine(room: Room, initrd: Path, disks: list[Path], append: str, name: str) -> Machine:
    config = Config(room.kernel.image, disks, append=append, initrd=initrd)
    return Machine(config, room.log / f"{name}.log")


def _expect_shell(vm: Machine) -> None:
    console = vm.console
    console.expect(f"the root, {MISSING}, did not come within 1 s", BOOT_TIMEOUT)
    console.expect("the block devices are: nvme0n1\r\n")
    console.expect("A root shell in the initramfs")
    console.expect("# ")
    # What a person mounts is taken.
    console.type("mount -t squashfs -o ro /dev/nvme0n1 /sysroot && exit")
    guest = Guest(vm)
    guest.wait_booted()
    guest.check("grep -q ' / / ro.* squashfs ' /proc/self/mountinfo")


def _look_at_verified(vm: Machine) -> None:
    guest = Guest(vm)
    guest.wait_booted()
    root = guest.check("awk '$5 == \"/\" { print }' /proc/self/mountinfo")
    assert len(root.splitlines()) == 1 and " - overlay " in root, root
    mounted = guest.check("cut -d' ' -f5 /proc/self/mountinfo").splitlines()
    for place in ("/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup"):
        assert mounted.count(place) == 1, f"{place} is mounted {mounted.count(place)} times"
    assert not [place for place in mounted if "layers" in place or "sysroot" in place], mounted
    guest.check("echo written >/etc/written && grep -q written /etc/written")
    assert guest.check("cat /sys/block/dm-0/dm/uuid").startswith("CRYPT-VERITY-")
    guest.check("grep -q 'in the initramfs' /run/molt/init.log")
    blame = guest.check("initctl --json blame")
    assert re.search(r'"initramfs_usec":[1-9]', blame), blame
