# SPDX-License-Identifier: MIT
"""What the machines have in common: a small system, its images, and the disks they lie on."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps, foreign, initramfs, kernel
from qemu.lab import CACHE, KERNEL_SUITE, LAB, REPOSITORY
from qemu.packages import Suite

TOOL = REPOSITORY / "conf/image/molt-image"

INIT_CONF = """[Boot]
Services=agent.service
[Upgrade]
Carry=/etc/motd
FreezeTimeoutSec=20
BlackoutTimeoutSec=60
CheckTimeoutSec=120
ExecTimeoutSec=60
"""
AGENT = f"[Service]\nExecStart=/{LAB}/agent /dev/ttyS1\n[Upgrade]\nPolicy=keep\n"
# Of molt-image in the guest, every step to the disk: the one whose number is in /run/cut is where it stands
# still for whoever pulls the plug. Functions, since busybox's shell prefers its own commands to any file.
STEPS = """
step() {
	local n=$(($(cat /run/step 2>/dev/null || echo 0) + 1))
	echo $n >/run/step
	if [ "$n" = "$(cat /run/cut 2>/dev/null)" ]; then
		echo "the hook stands at step $n" >/dev/console
		while :; do sleep 1000; done
	fi
}
sync() { step && command sync "$@"; }
mv() { step && command mv "$@"; }
rm() { step && command rm "$@"; }
"""
PANICS = "#!/bin/sh\necho 'this image panics' >/dev/console\nexit 1\n"
HANGS = "#!/bin/sh\necho 'this image hangs' >/dev/console\nexec sleep 100000\n"


@dataclass(frozen=True)
class Materials:
    """The kernel, an initramfs for it, and the tree of a system without kernel."""

    kernel: kernel.Kernel
    initrd: Path
    tree: Path


def gather(at: Path, build: Path, modules: str) -> Materials:
    deps.ensure()
    suite = Suite(KERNEL_SUITE, CACHE / "apt" / KERNEL_SUITE)
    suite.refresh()
    found = kernel.get(suite, CACHE)
    initrd = at / "initrd"
    initramfs.write(initrd, found, build, modules=modules, load=modules, compress="gzip")
    return Materials(found, initrd, system(at / "tree", build))


def system(root: Path, build: Path) -> Path:
    """busybox, molt, the agent, molt-image and its hooks, and btrfs, without which no subvolume goes."""
    foreign.lay_out(root, "amd64", Path(deps.tool("busybox")))
    programs = {"molt": "usr/sbin", "initctl": "usr/bin", "tools/agent": LAB}
    placed = []
    for name, directory in programs.items():
        (root / directory).mkdir(parents=True, exist_ok=True)
        placed.append(Path(shutil.copy2(build / name, root / directory)))
    placed.append(Path(shutil.copy2(deps.tool("btrfs"), root / "usr/bin")))
    (root / "sbin/init").symlink_to("../usr/sbin/molt")
    foreign.add_libraries(root, "amd64", placed)
    files = {"etc/molt/init.conf": INIT_CONF, "etc/molt/system/agent.service": AGENT, "etc/fstab": "",
             "etc/os-release": "ID=molt\n", "etc/motd": "of the image\n"}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    add_tool(root)
    with (root / "usr/lib/molt/image/common.sh").open("a") as file:
        file.write(STEPS)
    return root


def add_tool(root: Path) -> None:
    """molt-image as it is installed."""
    library = root / "usr/lib/molt/image"
    library.mkdir(parents=True)
    for part in TOOL.parent.glob("*.sh"):
        shutil.copy2(part, library)
    shutil.copy2(TOOL, root / "usr/sbin")
    for hook in (REPOSITORY / "conf/hooks").glob("*/*"):
        place = root / "usr/lib/molt" / hook.parent.name
        place.mkdir(exist_ok=True)
        shutil.copy2(hook, place)


def variant(tree: Path, init: str = "", files: dict[str, str] | None = None) -> None:
    """Another version of it: what its /sbin/init is, and files by their paths."""
    if init:
        (tree / "sbin/init").unlink()
        (tree / "sbin/init").write_text(init)
        (tree / "sbin/init").chmod(0o755)
    for name, text in (files or {}).items():
        (tree / name).write_text(text)


def add_kernel(materials: Materials, tree: Path) -> None:
    """With the modules that the initramfs has loaded: an upgrade wants them in both images."""
    (tree / "boot").mkdir(exist_ok=True)
    modules = tree / "usr/lib/modules" / materials.kernel.release
    modules.mkdir(parents=True)
    for name in ("modules.dep", "modules.builtin", "modules.alias"):
        shutil.copy2(materials.kernel.layer / "usr/lib/modules" / materials.kernel.release / name, modules)
    (tree / "lib/modules").symlink_to("../usr/lib/modules")
    shutil.copy2(materials.kernel.image, tree / "boot/vmlinuz")
    shutil.copy2(materials.initrd, tree / "boot/initrd.img")


def tool(*words: str | Path, **environment: str) -> str:
    """molt-image on this machine."""
    said = subprocess.run([str(TOOL), *map(str, words)], capture_output=True, text=True,
                          env=os.environ | environment)
    if said.returncode != 0:
        raise RuntimeError(f"molt-image {words}: {said.stdout}{said.stderr}")
    return said.stdout


@contextlib.contextmanager
def mounted(disk: Path, at: Path, options: str = "loop") -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    child.check(["mount", "-o", options, str(disk), str(at)])
    try:
        yield at
    finally:
        child.check(["umount", str(at)])


def empty(disk: Path, size: int) -> Path:
    with disk.open("wb") as file:
        file.truncate(size)
    return disk
