# SPDX-License-Identifier: MIT
"""The system that is booted, and its disks.

Debian's own kernel with an initramfs of molt, because that kernel has even the driver of its disks as
a module; and a root that has what a server has before anything is installed on it. Two of the disks
come damaged, one comes late, and one when the boot is over.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps, images, kernel
from qemu.cache import entry
from qemu.lab import CACHE, LAB, REPOSITORY, write_layer
from qemu.packages import KEYRING, Suite, acquire_settings, mirror
from qemu.progress import step

SUITE = "trixie"
KERNEL = "linux-image-amd64"
# The tools that a boot uses where they are there, and the libraries of molt.
PACKAGES = ("udev", "kmod", "e2fsprogs", "login", "passwd", "procps", "iproute2", "mount", "kexec-tools",
            "systemd-standalone-tmpfiles", "systemd-standalone-sysusers", "wtmpdb", "libpam-wtmpdb",
            "libmount1", "libblkid1", "libcap2", "libinih1")
PASSWORD = "a lobster"
SET_PASSWORD = f'echo "root:{PASSWORD}" | chroot "$1" chpasswd'

ROOT_SIZE, VAR_SIZE, HOME_SIZE, LATE_SIZE, SWAP_SIZE = "1G", "256M", "64M", "64M", "64M"
# What finds the root: the disks' driver and the file system.
INITRAMFS_MODULES = "nvme ext4 crc32c_generic crc32c-intel"
ZONE = Path("/usr/share/zoneinfo/Europe/Berlin")

# A loaded machine that emulates this one may not look at PID 1 for a while.
WATCHDOG_SECONDS = 40

CONF = f"""[Boot]
Services=agent.service wtmpdb-update-boot.service archive.service
DeviceTimeoutSec=180
[Manager]
RuntimeWatchdogSec={WATCHDOG_SECONDS}
[Upgrade]
Carry=/etc/machine-id
ExecTimeoutSec=120
CheckTimeoutSec=120
FreezeTimeoutSec=10
BlackoutTimeoutSec=30
"""

FSTAB = """LABEL=root   /     ext4 rw,errors=remount-ro 0 1
LABEL=var    /var  ext4 rw,nosuid,nodev      0 2
LABEL=home   /home ext4 rw,nosuid,nodev      0 2
LABEL=late   /srv  ext4 rw,x-systemd.device-timeout=60s 0 2
LABEL=after  /mnt  ext4 rw,nofail,x-systemd.device-timeout=2s 0 2
LABEL=swap   none  swap sw,pri=5 0 0
/var/swap    none  swap sw,pri=3 0 0
tmpfs        /tmp  tmpfs rw,nosuid,nodev,mode=1777 0 0
"""

FILES = {
    "etc/fstab": FSTAB,
    "etc/hostname": "whole\n",
    "etc/molt/system/archive.service": "[Unit]\nRequiresMountsFor=/mnt/archive\n[Service]\n"
                                       "ExecStart=/bin/sh -c 'touch /mnt/archive; exec sleep 100000'\n",
    "etc/machine-id": "",  # to be filled at the first boot; of an image that is only read, covered
    "etc/hosts": "127.0.0.1 localhost whole\n",
    # The hardware's clock has local time, as where Windows is beside it.
    "etc/adjtime": "0.0 0 0.0\n0\nLOCAL\n",
    "etc/molt/init.conf.d/50-lab.conf": CONF,
    "etc/modules-load.d/lab.conf": "# the watchdog's driver is on Debian's blacklist of what loads itself\n"
                                   "i6300esb\ndummy\n",
    "etc/sysctl.d/lab.conf": "vm.swappiness = 17\nnet.ipv4.conf.*.rp_filter = 2\n",
    "usr/lib/sysusers.d/lab.conf": "u crayfish - \"Made at boot\" /home/crayfish\n",
    # Debian 13 has left wtmp to wtmpdb; who has the file still has it written.
    "usr/lib/tmpfiles.d/lab.conf": "d /run/crayfish 0750 crayfish crayfish\n"
                                   "f /var/log/wtmp 0664 root utmp -\n",
    # A rule of udev's own making, for the disk that comes late too.
    "etc/udev/rules.d/90-lab.rules": 'KERNEL=="null", SYMLINK+="lab-null"\n',
    "etc/profile.d/lab.sh": "PS1='lab$ '\n",
}


@dataclass(frozen=True)
class Disks:
    """Which of /dev/nvme0n1, n2 ... each is is the kernel's business, so all have labels; `late` and `after`
    are on another controller."""

    root: Path
    second: Path  # the image to upgrade to
    var: Path
    home: Path
    swap: Path
    late: Path
    after: Path

    def plugged(self) -> list[Path]:
        return [self.root, self.second, self.var, self.home, self.swap]


@dataclass(frozen=True)
class System:
    kernel: Path
    initrd: Path
    root_uuid: str
    disks: Disks


def prepare(build: Path, room: Path) -> System:
    """All of it in the directory `room`, of what is cached where it is."""
    deps.ensure()
    suite = Suite(SUITE, CACHE / "apt" / f"{SUITE}-wholeboot")
    date = suite.refresh()
    booted = kernel.get(suite, CACHE / "wholeboot", kernel.resolve(suite, KERNEL))
    base = _base(suite, date)
    initrd = room / "initrd"
    _make_initramfs(build, booted, initrd)
    layers = [booted.layer, _install(build, room), _boot_files(room, booted, initrd)]
    with step("composing the root and the disks"):
        image = images.compose(base, room / "image", layers, ROOT_SIZE)
        disks = _disks(room, image)
    return System(booted.image, initrd, images.uuid(disks.root), disks)


def _make_initramfs(build: Path, booted: kernel.Kernel, path: Path) -> None:
    child.check([str(REPOSITORY / "conf/initramfs/molt-initramfs"), "--kernel", booted.release,
                 "--modules-root", str(booted.layer / "usr/lib/modules"),
                 "--molt", str(build / "molt"), "--busybox", deps.tool("busybox"),
                 "--modules", INITRAMFS_MODULES, "--output", str(path)])


def _install(build: Path, room: Path) -> Path:
    layer = room / "installed"
    child.check(["make", "--no-print-directory", "install", f"DESTDIR={layer}", "PREFIX=/usr",
                 "INIT_LINK=yes", f"BUILD={build.resolve()}"], cwd=REPOSITORY)
    (layer / LAB).mkdir(parents=True)
    for tool in ("agent", "arrest"):
        shutil.copy2(build / "tools" / tool, layer / LAB / tool)
    units = layer / "etc/molt/system"
    units.mkdir(parents=True, exist_ok=True)
    shutil.copy2(REPOSITORY / "qemu/guest/etc/molt/system/agent.service", units)
    return layer


def _boot_files(room: Path, booted: kernel.Kernel, initrd: Path) -> Path:
    """What is said to it by files; and its kernel, for kexec."""
    layer = write_layer(room / "files", FILES)
    shutil.copy2(ZONE, layer / "etc/localtime")
    (layer / "boot").mkdir()
    shutil.copy2(booted.image, layer / "boot/vmlinuz")
    shutil.copy2(initrd, layer / "boot/initrd")
    for place in ("new", "home", "srv", "mnt"):
        (layer / place).mkdir()
    return layer


def _disks(room: Path, image: images.Image) -> Disks:
    root = image.root
    second = room / "second.ext4"
    child.check(["cp", "--sparse=always", str(root), str(second)])
    child.check([deps.tool("tune2fs"), "-L", "second", "-U", "random", str(second)])
    late = room / "late.ext4"
    after = room / "after.ext4"
    for disk in (late, after):
        child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-L", disk.stem, str(disk), LATE_SIZE])
    swap = room / "swap"
    child.check(["truncate", "-s", SWAP_SIZE, str(swap)])
    child.check([deps.tool("mkswap"), "-q", "-L", "swap", str(swap)])
    _add_swap_file(room, image.var)
    child.check([deps.tool("tune2fs"), "-O", "has_journal", str(root)])
    damage(root, "etc/hosts")
    damage(image.var, "lib/dpkg/status")
    return Disks(root, second, image.var, image.home, swap, late, after)


def _add_swap_file(room: Path, var: Path) -> None:
    file = room / "swapfile"
    file.write_bytes(os.urandom(16 << 20))  # debugfs makes holes of what is empty
    child.check([deps.tool("mkswap"), "-q", str(file)])
    # Its header has empty blocks, which the kernel does not read.
    with file.open("r+b") as header:
        header.write(b"x" * 1024)
        header.seek(2048)
        header.write(b"x" * 1024)
    _debugfs(var, f"write {file} swap")
    _debugfs(var, "sif swap mode 0100600")
    file.unlink()


def damage(disk: Path, path: str) -> None:
    """A wrong count of links, which fsck mends by itself, and the mark that has it look."""
    _debugfs(disk, f"sif {path} links_count 7")
    _debugfs(disk, "ssv state 2")


def is_damaged(disk: Path, path: str) -> bool:
    shown = child.run([deps.tool("debugfs"), "-R", f"stat {path}", str(disk)]).stdout
    return "Links: 7 " in shown


def read(disk: Path, path: str) -> bytes:
    """A file of a file system that nobody has mounted."""
    place = disk.with_suffix(".read")
    _debugfs(disk, f"dump {path} {place}")
    data = place.read_bytes()
    place.unlink()
    return data


def _debugfs(disk: Path, command: str) -> None:
    done = child.run([deps.tool("debugfs"), "-w", "-R", command, str(disk)])
    # Its exit code tells nothing; the first line of its standard error is its version.
    said = [line for line in done.stderr.splitlines() if not re.match(r"debugfs \d", line)]
    if done.returncode != 0 or said:
        raise RuntimeError(f"debugfs {command!r} of {disk.name}: {' '.join(said)}")


def _base(suite: Suite, date: str) -> Path:
    recipe = "\n".join([SUITE, date, *PACKAGES, SET_PASSWORD, *images.LEFT_OUT])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return entry(CACHE / "roots" / f"{SUITE}-wholeboot", key, _bootstrap) / "root.tar"


def _bootstrap(directory: Path) -> None:
    settings = directory / "acquire.conf"
    settings.write_text(acquire_settings())
    command = ["mmdebstrap", "--variant=essential", f"--include={','.join(PACKAGES)}",
               f"--keyring={KEYRING}", f"--aptopt={settings}", "--dpkgopt=force-unsafe-io",
               *(f"--dpkgopt=path-exclude={pattern}" for pattern in images.LEFT_OUT),
               f"--customize-hook={SET_PASSWORD}", f"--customize-hook={images.CLEAN_UP}",
               SUITE, str(directory / "root.tar"), f"deb {mirror()} {SUITE} main"]
    with step(f"building a Debian {SUITE} to be booted whole"), (directory / "log").open("w") as output:
        run = child.run(command, stdout=output, stderr=output, stdin=child.subprocess.DEVNULL)
        if run.returncode != 0:
            raise RuntimeError(f"mmdebstrap failed:\n{(directory / 'log').read_text()[-2000:]}")
    settings.unlink()
