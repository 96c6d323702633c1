# SPDX-License-Identifier: MIT
"""A stock Debian 13 whose init is replaced by our packages, booted with its own daemons.

    python3 -m qemu.stock --build build

apt takes systemd-sysv away and puts molt-sysv there, in a chroot, as a person would on a machine; the
daemons are then those that systemd would have started. What is added by hand is what the host needs of a
guest: the kernel's modules, the network card's address, and the agent.
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
from qemu.guest import Guest
from qemu.lab import CACHE, KERNEL_SUITE, LAB, REPOSITORY, write_layer
from qemu.machine import Config, Machine, MachineError
from qemu.packages import KEYRING, PackageError, Suite, acquire_settings, mirror
from qemu.progress import say, step

SUITE = "trixie"
# Debian's own selection, priority "important", with the daemons that many a server has; and the
# libraries of our packages, so that apt needs no network when it installs them.
VARIANT = "important"
DAEMONS = ("openssh-server", "nginx-light", "cron")
LIBRARIES = ("libmount1", "libblkid1", "libinih1")
SIZE = "1536M"

# What apt is told: Debian protects /sbin/init, so it wants to hear that init goes.
INSTALL = """set -e
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --allow-remove-essential \
    --no-install-recommends /debs/molt_*.deb /debs/molt-sysv_*.deb systemd-sysv- init-
rm -r /usr/sbin/policy-rc.d /debs
dpkg --audit
for link in init telinit shutdown reboot halt poweroff; do test -x /sbin/$link; done
test "$(readlink -f /sbin/init)" = /usr/sbin/molt
"""

LAYER = {
    "etc/fstab": "/dev/nvme0n1 / ext4 rw 0 1\n",
    "etc/hostname": "stock\n",
    "etc/molt/init.conf.d/50-lab.conf": "[Boot]\nServices=agent.service network.service\n",
}
FROM_LAB = ("etc/molt/system/agent.service", "etc/molt/system/network.service", f"{LAB}/network-up")

# How each daemon shows that it works, not only that it runs.
WORKING = {
    "ssh.service": "exec 3<>/dev/tcp/127.0.0.1/22; read -r line <&3; [[ $line == SSH-2.0-* ]]",
    "nginx.service": "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; "
                     "grep -q 'Welcome to nginx' <&3",
    "cron.service": "kill -0 \"$(cat /run/crond.pid)\"",
}


def boot_stock(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError with what was not as it must be."""
    log.mkdir(parents=True, exist_ok=True)
    deps.ensure()
    room = Path(tempfile.mkdtemp(prefix="molt-stock-"))
    try:
        kernels = Suite(KERNEL_SUITE, CACHE / "apt" / f"{KERNEL_SUITE}-kernel")
        kernels.refresh()
        booted = kernel.get(kernels, CACHE)
        disk = _disk(build, booted, room, log)
        with Machine(Config(booted.image, [disk], append="rw"), log / "console.log") as vm:
            _scenario(vm)
        assert not images.unclean(disk), f"the root was left unclean: {images.unclean(disk)}"
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _scenario(vm: Machine) -> None:
    guest = Guest(vm)
    guest.wait_booted()
    guest.check('test "$(readlink /proc/1/exe)" = /usr/sbin/molt')
    for service, works in WORKING.items():
        with step(f"{service} works"):
            guest.wait_until(f"bash -c {_quoted(works)}", what=f"{service} does not work")
    guest.send("/sbin/poweroff")
    reason = vm.wait_off(120)
    assert reason == "guest-shutdown", f"the machine went off by {reason}"


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def _disk(build: Path, booted: kernel.Kernel, room: Path, log: Path) -> Path:
    tree = room / "tree"
    tree.mkdir()
    child.check(["tar", "-C", str(tree), "-xf", str(_base())])
    with step("apt puts molt in the place of systemd-sysv"):
        _install(build / "deb", tree, log)
    layer = write_layer(room / "layer", LAYER)
    for name in FROM_LAB:
        (layer / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / "qemu/guest" / name, layer / name)
    shutil.copy2(build / "tools/agent", layer / LAB / "agent")
    for source in (layer, booted.layer):
        child.check(["cp", "-RT", "--preserve=mode", str(source), str(tree)])
    disk = room / "root.ext4"
    child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-d", str(tree), str(disk), SIZE])
    shutil.rmtree(tree)
    return disk


def _install(debs: Path, tree: Path, log: Path) -> None:
    (tree / "debs").mkdir()
    for package in ("molt", "molt-sysv"):
        [deb] = debs.glob(f"{package}_*.deb")
        shutil.copy2(deb, tree / "debs")
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
