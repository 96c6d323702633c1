# SPDX-License-Identifier: MIT
"""What cells are made of and share: kernels from Debian's suites, and a small system for each
architecture. Made once, before the first cell, and told to the cells in a file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from qemu import child, deps, foreign, kernel
from qemu.board import BOARDS
from qemu.kernel import FLAVOUR
from qemu.lab import CACHE, LAB, REPOSITORY
from qemu.matrix.base import fingerprint, of_system
from qemu.matrix.cells import ARCHITECTURES, KERNELS, NEWEST, STOCK, Cell
from qemu.packages import PackageError, Suite
from qemu.progress import say, step

TOOLS = ("agent", "badinit", "kexecload", "stream", "web")
SCRIPTS = fingerprint((REPOSITORY / "qemu").rglob("*.py"))
PACKING = fingerprint((REPOSITORY / "debian").rglob("*"))
LOADED = "libcryptsetup.so.12"  # by libmount, when it is asked for dm-verity
YOUNG = 6 * 3600.0  # seconds that a package list is good for: runs follow each other
BASE_SUITE = "bookworm"  # of busybox


@dataclass
class Materials:
    """All paths are texts: this goes through a file."""

    # "ARCHITECTURE/KERNEL" -> image, modules; or why there is none
    kernels: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    systems: dict[str, str] = field(default_factory=dict)  # architecture -> directory
    keys: dict[str, str] = field(default_factory=dict)  # architecture -> fingerprint of that
    bases: str = ""  # directories of qemu/matrix/base.py
    work: str = ""  # for what is gone with its cell
    packages: str = ""  # a directory of our own
    tools: str = ""  # of the machine's own architecture, for the system that those go into

    def why_not(self, cell: Cell) -> str:
        return self.missing.get(f"{cell.architecture}/{cell.kernel}", "") or \
            self.missing.get(cell.architecture, "")

    def key(self, cell: Cell) -> str:
        """Of what a cell tests, and how: an outcome is good for as long as that is the same."""
        linux = self.kernels.get(f"{cell.architecture}/{cell.kernel}", {}).get("image", "")
        packed = f" {PACKING}" if cell.root == STOCK else ""
        return f"{self.keys.get(cell.architecture)} {SCRIPTS} {Path(linux).parent.name}{packed}"

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.__dict__, indent=1))


def load(path: Path) -> Materials:
    return Materials(**json.loads(path.read_text()))


def gather(cells: Iterable[Cell], builds: dict[str, Path], out: Path) -> Materials:
    """For those cells. What cannot be had is noted as missing: that is for the table to tell."""
    wanted = [cell for cell in cells if not cell.not_yet]
    found = Materials(bases=str(out / "bases"), work=str(out / "work"))
    for place in (found.bases, found.work):
        Path(place).mkdir(exist_ok=True)
    for architecture in dict.fromkeys(cell.architecture for cell in wanted):
        try:
            found.systems[architecture] = str(_system(architecture, builds[architecture], out))
            found.keys[architecture] = of_system(Path(found.systems[architecture]))
        except (PackageError, deps.MissingPackages, foreign.MissingLibrary) as error:
            # Not a RuntimeError: a molt that does not build is no skip.
            found.missing[architecture] = str(error)
    for architecture in dict.fromkeys(c.architecture for c in wanted if c.root == STOCK):
        found.packages = str(_packages(builds[architecture], out))
        found.tools = str(builds[architecture].resolve() / "tools")
    for architecture, version in dict.fromkeys((c.architecture, c.kernel) for c in wanted):
        name = f"{architecture}/{version}"
        try:
            linux = _kernel(architecture, version)
            found.kernels[name] = {
                "image": str(linux.image),
                "modules": str(linux.layer / "usr/lib/modules" / linux.release)}
            say(f"{name} is Linux {linux.release}")
        except (PackageError, RuntimeError) as error:
            found.missing[name] = f"no kernel {version} to be had: {str(error).splitlines()[0]}"
            say(f"{name}: {found.missing[name]}")
    return found


def _kernel(architecture: str, version: str) -> kernel.Kernel:
    debian = ARCHITECTURES[architecture]
    candidates = []
    for name in KERNELS[version]:
        suite = Suite(name, CACHE / "matrix/apt" / f"{name}-{debian}", debian)
        try:
            suite.refresh(YOUNG)
            candidates += [(release_key(package), package, suite)
                           for package in packages_of(version, debian, suite.names("linux-image-"))]
        except PackageError as error:
            say(f"{name}: {error}")
    if not candidates:
        raise PackageError(f"none of {', '.join(KERNELS[version])} has one")
    _, package, suite = max(candidates, key=lambda candidate: candidate[0])
    return kernel.get(suite, CACHE / "matrix" / debian / version, package)


def packages_of(version: str, debian: str, names: Iterable[str]) -> list[str]:
    """Of the names of packages, those of such a kernel."""
    wanted = r"\d+\.\d+" if version == NEWEST else re.escape(version)
    suffix = FLAVOUR.format(debian).removeprefix("linux-image")
    return [n for n in names if re.fullmatch(rf"linux-image-{wanted}\.\S*{re.escape(suffix)}", n)]


def release_key(package: str) -> tuple[int, ...]:
    """6.1.0-50 is newer than 6.1.0-9."""
    return tuple(int(n) for n in re.findall(r"\d+", package.partition("-cloud-")[0]))


def _packages(build: Path, out: Path) -> Path:
    """Of what is built there."""
    directory = out / "packages"
    with step("packing molt"):
        child.check(["make", "--no-print-directory", "deb", "DEB_BUILT=yes", f"BUILD={build.resolve()}",
                     f"DEB={directory}"], cwd=REPOSITORY)
    return directory


def _system(architecture: str, build: Path, out: Path) -> Path:
    """A directory: busybox, molt and the tools, and their libraries."""
    debian = ARCHITECTURES[architecture]
    deps.ensure(debian if architecture != "x86_64" else "")
    suite = Suite(BASE_SUITE, CACHE / "matrix/apt" / f"{BASE_SUITE}-{debian}", debian)
    suite.refresh(YOUNG)
    root = out / "systems" / architecture
    shutil.rmtree(root, ignore_errors=True)
    foreign.lay_out(root, debian, foreign.busybox(suite, CACHE / "matrix"))
    child.check(["make", "--no-print-directory", "install", f"DESTDIR={root}", "PREFIX=/usr",
                 f"ARCH={debian}", f"BUILD={build.resolve()}"], cwd=REPOSITORY)
    (root / "sbin/init").symlink_to("../usr/sbin/molt")
    (root / "sbin/modprobe").symlink_to("../bin/busybox")  # where the kernel looks for it
    for place in ("doc", "man"):
        shutil.rmtree(root / "usr/share" / place, ignore_errors=True)
    (root / LAB).mkdir(parents=True)
    programs = [root / "usr/sbin/molt", root / "usr/bin/initctl"]
    for tool in TOOLS:
        programs.append(Path(shutil.copy2(build / "tools" / tool, root / LAB / tool)))
    foreign.add_libraries(root, debian, programs, [LOADED])
    for program in programs:
        child.check([f"{BOARDS[debian].triplet}-strip", "--strip-debug", str(program)])
    return root
