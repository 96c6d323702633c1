# SPDX-License-Identifier: MIT
"""A stock Debian 13 whose init is replaced by our packages, booted with its own daemons.

    python3 -m qemu.stock --build build

apt takes systemd-sysv away and puts molt-sysv there, in a chroot, as a person would on a machine; the
daemons are then those that systemd would have started, and the network is up by Debian's ifupdown. What
is added by hand is what the host needs of a guest: the kernel's modules, a key for ssh, and the agent;
and, so that an upgrade has somewhere to go, a second root and a /var that is nobody's.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from qemu import child, deps, images, kernel
from qemu.cache import entry
from qemu.lab import CACHE, LAB, REPOSITORY, write_layer
from qemu.machine import Config, Machine, MachineError
from qemu.packages import KEYRING, PackageError, Suite, acquire_settings, mirror
from qemu.progress import say, step
from qemu.stock_story import SECOND_VERSION, SSH, Host, tell

SUITE = "trixie"
# Debian's own selection, priority "important", with the daemons that many a server has; and what our
# packages, and those that the guest is to install, depend on: apt has no network there.
VARIANT = "important"
DAEMONS = ("openssh-server", "nginx-light", "cron", "dbus", "systemd-timesyncd", "ifupdown",
           "unattended-upgrades", "logrotate")
LIBRARIES = ("libmount1", "libblkid1", "libinih1", "libcap2")
# What the guest installs: a daemon with an init script, and one with a unit alone, which wants libraries.
INSTALLED_LATER = ("at", "rsyslog", "libestr0", "libfastjson4", "liblognorm5")
ROOT_SIZE, VAR_SIZE = "1536M", "512M"

# Who goes back to systemd.
ORIGINALS = ("systemd-sysv", "init")

# There, once more over itself, back and away, and there again, as a person would. What apt is told: Debian
# protects /sbin/init, so it wants to hear that init goes.
INSTALL = """set -eux
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
list=/etc/molt/init.conf.d/10-debian.conf
install() {
    apt-get install -y -q --allow-remove-essential --no-install-recommends "$@"
    test -z "$(dpkg --audit)"
}
is_molt() {
    for link in init telinit shutdown reboot halt poweroff; do test -x /sbin/$link; done
    test "$(readlink -f /sbin/init)" = /usr/sbin/molt
    grep -q '^Services=.*ssh.service' $list
}
install /debs/molt_*.deb /debs/molt-sysv_*.deb systemd-sysv- init-
is_molt
cp $list /tmp/before
sed -i 's/ ssh.service//' $list
install --reinstall /debs/molt_*.deb /debs/molt-sysv_*.deb
is_molt
cmp $list /tmp/before
sed -i '1d; s/ ssh.service//' $list
install --reinstall /debs/molt-sysv_*.deb
! grep ssh.service $list
install /debs/init_*.deb /debs/systemd-sysv_*.deb molt-sysv-
test "$(readlink -f /sbin/init)" = /usr/lib/systemd/systemd
test -x /usr/sbin/molt
test -e $list
apt-get purge -y -q molt molt-sysv
test ! -e /etc/molt
test ! -e /usr/lib/molt
install /debs/molt_*.deb /debs/molt-sysv_*.deb systemd-sysv- init-
is_molt
cmp $list /tmp/before
install /debs/molt-initramfs_*.deb
for kernel in /boot/vmlinuz-*; do test -s /boot/initrd.img-${kernel#*-}; done
rm -r /usr/sbin/policy-rc.d /debs /tmp/before
"""

LAYER = {
    "etc/fstab": "/dev/nvme0n3 /var ext4 rw 0 2\ntmpfs /tmp tmpfs mode=1777 0 0\n",
    "etc/hostname": "stock\n",
    "etc/hosts": "127.0.0.1 localhost stock\n",
    "etc/network/interfaces": "auto lo eth0\niface lo inet loopback\n"
                              "iface eth0 inet static\n    address 10.0.2.15/24\n    gateway 10.0.2.2\n",
    "etc/cron.d/lab": "* * * * * root date > /run/cron-was-here\n",
    "etc/molt/init.conf.d/50-lab.conf": "[Boot]\nServices=agent.service\n",
}
FROM_LAB = ("etc/molt/system/agent.service",)
# The classic names of network cards; udev would name it by its slot.
APPEND = "rw net.ifnames=0"


# In the order of /dev/nvme0n1, n2, n3; written to. Beside them lie key, that opens a login, and initrd.
DISKS = ("first", "second", "var")


def boot_stock(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError with what was not as it must be."""
    log.mkdir(parents=True, exist_ok=True)
    deps.ensure()
    room = Path(tempfile.mkdtemp(prefix="molt-stock-"))
    try:
        kernels = Suite(SUITE, CACHE / "apt" / f"{SUITE}-kernel")
        kernels.refresh()
        # In a place of its own: the cache keeps one version, and the other guests have another.
        booted = kernel.get(kernels, CACHE / "stock")
        make(build / "deb", build / "tools", booted, room, log)
        play(booted.image, room, log)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def machine(image: Path, room: Path, log: Path) -> Machine:
    """With the disks and the initramfs that make() has left in the room. It has no key for the console."""
    return Machine(Config(image, [room / name for name in DISKS], {SSH: 1}, append=APPEND, memory="1G",
                          initrd=room / "initrd"), log / "console.log")


def play(image: Path, room: Path, log: Path, whole: bool = True, slowness: float = 1.0) -> None:
    """`whole`: an upgrade and packages as well. Raises AssertionError or MachineError."""
    with machine(image, room, log) as vm:
        tell(vm, Host(room / "key", room, log, slowness), whole)
    for name in DISKS:
        assert not images.unclean(room / name), f"{name} was left unclean: {images.unclean(room / name)}"


def make(debs: Path, tools: Path, booted: kernel.Kernel, room: Path, log: Path) -> None:
    """Writes the disks, the key and the initramfs, of those packages."""
    child.check([deps.tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(room / "key")])
    tree = room / "tree"
    tree.mkdir()
    child.check(["tar", "-C", str(tree), "-xf", str(_base())])
    child.check(["cp", "-RT", "--preserve=mode", str(booted.layer), str(tree)])
    shutil.copy2(booted.image, tree / f"boot/vmlinuz-{booted.release}")
    with step("apt puts molt in the place of systemd-sysv, and of an initramfs tool"):
        _install(debs, tree, log)
    shutil.move(tree / f"boot/initrd.img-{booted.release}", room / "initrd")
    layer = write_layer(room / "layer", LAYER)
    for name in FROM_LAB:
        (layer / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / "qemu/guest" / name, layer / name)
    (layer / LAB).mkdir(parents=True)
    shutil.copy2(tools / "agent", layer / LAB / "agent")
    (layer / "root/.ssh").mkdir(parents=True, mode=0o700)
    shutil.copy2(room / "key.pub", layer / "root/.ssh/authorized_keys")
    (layer / "debs").mkdir()
    _add_packages(INSTALLED_LATER, layer / "debs")
    child.check(["cp", "-RT", "--preserve=mode", str(layer), str(tree)])
    _write(tree / "var", room / "var", VAR_SIZE)
    shutil.rmtree(tree / "var")
    (tree / "var").mkdir()
    _write(tree, room / "first", ROOT_SIZE)
    release = tree / "usr/lib/os-release"
    release.write_text(release.read_text() + f'VERSION_ID="{SECOND_VERSION}"\n')
    _write(tree, room / "second", ROOT_SIZE)
    shutil.rmtree(tree)


def _write(tree: Path, disk: Path, size: str) -> None:
    child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-d", str(tree), str(disk), size])


def _add_packages(packages: tuple[str, ...], directory: Path) -> None:
    suite = Suite(SUITE, CACHE / "apt" / f"{SUITE}-stock")
    for package in packages:
        suite.download(package, directory)


def _install(debs: Path, tree: Path, log: Path) -> None:
    (tree / "debs").mkdir()
    for package in ("molt", "molt-sysv", "molt-initramfs"):
        [deb] = debs.glob(f"{package}_*.deb")
        shutil.copy2(deb, tree / "debs")
    _add_packages(ORIGINALS, tree / "debs")
    with (log / "apt.log").open("w") as output:
        done = child.run(["chroot", str(tree), "/bin/sh", "-c", INSTALL], stdout=output,
                         stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (log / "apt.log").read_text()


def _base() -> Path:
    suite = Suite(SUITE, CACHE / "apt" / f"{SUITE}-stock")
    recipe = "\n".join([SUITE, suite.refresh(), VARIANT, *DAEMONS, *LIBRARIES, *images.LEFT_OUT])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return entry(CACHE / "roots" / f"{SUITE}-stock", key, _bootstrap) / "root.tar"


def _bootstrap(directory: Path) -> None:
    settings = directory / "acquire.conf"
    settings.write_text(acquire_settings())
    command = ["mmdebstrap", f"--variant={VARIANT}", f"--include={','.join(DAEMONS + LIBRARIES)}",
               f"--keyring={KEYRING}", f"--aptopt={settings}", "--dpkgopt=force-unsafe-io",
               *(f"--dpkgopt=path-exclude={pattern}" for pattern in images.LEFT_OUT),
               f"--customize-hook={images.CLEAN_UP}",
               SUITE, str(directory / "root.tar"), f"deb {mirror()} {SUITE} main"]
    with step(f"building a stock Debian {SUITE}"), (directory / "log").open("w") as output:
        run = child.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            raise RuntimeError(f"mmdebstrap failed:\n{(directory / 'log').read_text()[-2000:]}")
    settings.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(prog="qemu.stock", description="A stock Debian under molt.")
    parser.add_argument("--build", type=Path, default=Path("build"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("stock: apt runs in a chroot: run it as root")
    child.exit_on_signals()
    try:
        boot_stock(options.build, options.build / "stock")
    except (AssertionError, MachineError, TimeoutError) as error:
        print(error)
        return 1
    except (deps.MissingPackages, PackageError, RuntimeError) as error:
        sys.exit(f"stock: {error}")
    say("PASSED  Debian 13 with its own daemons under molt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
