# SPDX-License-Identifier: MIT
"""molt as /sbin/init after an initramfs that others make: Debian's initramfs-tools, and dracut, which
also has a way back into it.

    python3 -m qemu.initramfs_others --build build

Both are run in a Debian of their own, a workshop, for the kernel that is booted; the root is Debian
with molt.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from pathlib import Path
from subprocess import DEVNULL, STDOUT

from qemu import child, deps, images
from qemu.cache import entry
from qemu.guest import Guest
from qemu.lab import CACHE, Room, write_layer
from qemu.machine import Config, Machine, MachineError
from qemu.packages import KEYRING, PackageError, Suite, acquire_settings, mirror
from qemu.progress import say, step

SUITE = "bookworm"
PACKAGES = ("initramfs-tools-core", "dracut-core", "kmod", "udev", "cpio", "zstd", "busybox",
            "e2fsprogs", "util-linux")
OFF_TIMEOUT = 120.0
# What dracut wants in the root for the way down, of its own package and Debian's cpio.
DRACUT_IN_ROOT = ("usr/lib/dracut", "usr/lib/systemd/system/dracut-shutdown.service", "usr/bin/cpio", "bin/cpio")

# Each with a /proc of its own: process substitution of a shell needs it.
MAKE = {
    "initramfs-tools": "mkinitramfs -o /initrd {0}",
    "dracut": "dracut --force --no-hostonly --no-hostonly-cmdline --no-compress "
              "--omit 'systemd plymouth network' /initrd {0}",
}
FILES = {
    "etc/fstab": "",
    "etc/molt/init.conf": "[Boot]\nServices=agent.service {services}\n",
}


def boot_after_others(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    with Room(build, log) as room:
        room.gather([SUITE])
        workshop = _lay_out(room)
        for name in MAKE:
            initrd = _make(room, workshop, name)
            _boot(room, workshop, initrd, name)
            say(f"molt boots after {name}")


def _boot(room: Room, workshop: Path, initrd: Path, name: str) -> None:
    dracut = name == "dracut"
    services = "dracut-shutdown.service" if dracut else ""
    layers = [write_layer(room.directory / f"{name}-files",
                          {path: text.format(services=services) for path, text in FILES.items()})]
    if dracut:
        layers.append(_dracut_layer(room, workshop, initrd))
    image = room.image(f"{name}-root", SUITE, layers)
    config = Config(room.kernel.image, [image.root],
                    append=f"root=UUID={images.uuid(image.root)} rw loglevel=6", initrd=initrd,
                    memory="1G")
    with Machine(config, room.log / f"{name}.log") as vm:
        guest = Guest(vm)
        guest.wait_booted(240.0)
        guest.check('test "$(readlink /proc/1/exe)" = /usr/sbin/molt')
        mounted = guest.check("cut -d' ' -f5 /proc/self/mountinfo").splitlines()
        for place in ("/", "/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup"):
            assert mounted.count(place) == 1, f"{place} is mounted {mounted.count(place)} times"
        guest.check("touch /etc/written")
        if dracut:
            # As its modules for LVM, RAID and the like do.
            guest.check("mkdir -p /run/initramfs && touch /run/initramfs/.need_shutdown")
            guest.wait_until("initctl status dracut-shutdown.service | grep -q running")
        guest.send("initctl poweroff")
        reason = vm.wait_off(OFF_TIMEOUT)
        assert reason == "guest-shutdown", reason
        said = vm.console.text()
    assert not images.unclean(image.root), f"{name}: {images.unclean(image.root)}"
    went_back = "going back to the initramfs" in said
    assert went_back == dracut, f"{name}: {'no' if dracut else 'a'} way back into the initramfs"
    assert "molt: good-bye" not in said or not dracut, "dracut did not end the system"


def _lay_out(room: Room) -> Path:
    """The workshop with the kernel's modules in it."""
    tree = room.directory / "workshop"
    tree.mkdir()
    child.check(["tar", "-C", str(tree), "-xf", str(_base())])
    child.check(["cp", "-RT", "--preserve=mode", str(room.kernel.layer), str(tree)])
    (tree / f"boot/config-{room.kernel.release}").write_text("CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n")
    return tree


def _make(room: Room, workshop: Path, name: str) -> Path:
    script = MAKE[name].format(room.kernel.release)
    with step(f"{name} makes an initramfs"), (room.log / f"{name}-make.log").open("w") as output:
        done = child.run(["unshare", "--mount", "--pid", "--fork", "sh", "-c",
                          f"mount -t proc proc {workshop}/proc && mount --rbind /dev {workshop}/dev && "
                          f"exec chroot {workshop} sh -c \"$0\"", script],
                         stdout=output, stderr=STDOUT, stdin=DEVNULL,
                         env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert done.returncode == 0, (room.log / f"{name}-make.log").read_text()[-2000:]
    initrd = room.directory / f"{name}.initrd"
    shutil.move(workshop / "initrd", initrd)
    return initrd


def _dracut_layer(room: Room, workshop: Path, initrd: Path) -> Path:
    """What a system has that dracut is installed on."""
    layer = room.directory / "dracut-layer"
    for name in DRACUT_IN_ROOT:
        source = workshop / name
        if not source.exists():
            continue
        place = layer / ("usr/bin/cpio" if name == "bin/cpio" else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        child.check(["cp", "-a", str(source), str(place)])
    (layer / "boot").mkdir()
    shutil.copy2(initrd, layer / f"boot/initrd.img-{room.kernel.release}")
    return layer


def _base() -> Path:
    suite = Suite(SUITE, CACHE / "apt" / f"{SUITE}-workshop")
    recipe = "\n".join([SUITE, suite.refresh(), *PACKAGES, *images.LEFT_OUT])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return entry(CACHE / "roots" / f"{SUITE}-workshop", key, _bootstrap) / "root.tar"


def _bootstrap(directory: Path) -> None:
    settings = directory / "acquire.conf"
    settings.write_text(acquire_settings())
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}",
               f"--keyring={KEYRING}", f"--aptopt={settings}", "--dpkgopt=force-unsafe-io",
               *(f"--dpkgopt=path-exclude={pattern}" for pattern in images.LEFT_OUT),
               SUITE, str(directory / "root.tar"), f"deb {mirror()} {SUITE} main"]
    with step("building a Debian with initramfs-tools and dracut"), (directory / "log").open("w") as output:
        run = child.run(command, stdout=output, stderr=output, stdin=DEVNULL)
        if run.returncode != 0:
            raise RuntimeError(f"mmdebstrap failed:\n{(directory / 'log').read_text()[-2000:]}")
    settings.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(prog="qemu.initramfs_others",
                                     description="molt after the initramfs of others.")
    parser.add_argument("--build", type=Path, default=Path("build"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("initramfs-test: the tools run in a chroot: run it as root")
    child.exit_on_signals()
    try:
        boot_after_others(options.build, options.build / "initramfs-others")
    except (AssertionError, MachineError, TimeoutError) as error:
        print(error)
        return 1
    except (deps.MissingPackages, PackageError, RuntimeError) as error:
        sys.exit(f"initramfs-test: {error}")
    say("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
