# SPDX-License-Identifier: MIT
"""A kernel of Debian, unpacked and not installed: the image to boot and its modules."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps
from qemu.cache import entry
from qemu.packages import PackageError, Suite
from qemu.progress import step

# The smallest flavour: no firmware, no graphics, and NVMe and ext4 built in, so that it boots a
# root with no initramfs.
FLAVOUR = "linux-image-cloud-{}"


@dataclass(frozen=True)
class Kernel:
    """`layer` is a directory to lay over a root; it holds usr/lib/modules/RELEASE."""

    release: str
    image: Path
    layer: Path


def get(suite: Suite, cache: Path, package: str = "") -> Kernel:
    """The suite's kernel, or the one of that package, from the cache if that has this version of it."""
    package = package or resolve(suite)
    version = suite.version(package)
    directory = entry(cache / "kernels", f"{package}_{version}",
                      lambda at: _unpack(suite, package, at))
    return _kernel(directory)


def resolve(suite: Suite, flavour: str = FLAVOUR) -> str:
    """The meta package names the ABI of the day: linux-image-6.1.0-50-cloud-amd64."""
    flavour = flavour.format(suite.architecture)
    found = re.search(r"\b(linux-image-\d\S+)", suite.depends(flavour))
    if not found:
        raise PackageError(f"{flavour} of {suite.name} names no kernel")
    return found.group(1)


def _unpack(suite: Suite, package: str, directory: Path) -> None:
    with step(f"fetching the kernel {package}"):
        tree = directory / "tree"
        for part in _parts(suite, package):
            deb = suite.download(part, directory)
            child.check(["dpkg-deb", "--extract", str(deb), str(tree)])
            deb.unlink()
        layer = directory / "layer"
        (layer / "usr/lib").mkdir(parents=True)
        inside = list(tree.glob("usr/lib/modules/*/vmlinuz"))
        shutil.move(inside[0] if inside else _only(tree, "boot/vmlinuz-*"), directory / "vmlinuz")
        shutil.move(_modules(tree), layer / "usr/lib/modules")
        shutil.rmtree(tree)
        _index_modules(layer)


def _parts(suite: Suite, package: str) -> list[str]:
    """Since 6.19 the image and the modules are packages of their own, which this one depends on."""
    return re.findall(r"\blinux-(?:binary|modules)-\d[^\s,]*", suite.depends(package)) or [package]


def _modules(tree: Path) -> Path:
    """Since trixie a package has them below usr."""
    return _only(tree, "usr/lib/modules" if (tree / "usr/lib/modules").is_dir() else "lib/modules")


def _index_modules(layer: Path) -> None:
    """What the package's postinst would have done. depmod wants to see lib/modules."""
    release = _only(layer, "usr/lib/modules/*").name
    (layer / "lib").symlink_to("usr/lib")
    child.check([deps.tool("depmod"), "-b", str(layer), release])
    (layer / "lib").unlink()


def _kernel(directory: Path) -> Kernel:
    modules = _only(directory, "layer/usr/lib/modules/*")
    return Kernel(modules.name, directory / "vmlinuz", directory / "layer")


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise PackageError(f"{len(found)} files match {pattern} in {directory}, not one")
    return found[0]
