# SPDX-License-Identifier: MIT
"""The matrix as data: what its axes have, which combinations make sense, and which of them molt has
to refuse or cannot do yet. A cell is ARCHITECTURE/KERNEL/ROOT/SCENARIO.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

# By the names of uname(1), and Debian's.
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}

# Which suites of Debian may have a kernel of that version. Of several suites, the newest it is.
NEWEST = "newest"
KERNELS = {
    "5.10": ("bullseye",),
    "6.1": ("bookworm",),
    "6.12": ("trixie",),
    "6.18": ("trixie-backports",),
    NEWEST: ("trixie-backports", "sid"),
}

ROOTS = {
    "nvme": "ext4 on NVMe, found by the kernel itself: no initramfs",
    "ext4": "ext4, by its UUID",
    "btrfs": "a subvolume of a btrfs",
    "squashfs": "a squashfs below an overlay that can be written to",
    "erofs": "an erofs",
    "verity": "a squashfs behind dm-verity",
    "tmpfs": "a tmpfs that an initramfs of busybox has filled",
    "initramfs": "the initramfs itself",
    "stock": "a stock Debian 13 with its own daemons, on which apt has put the packages of molt",
}

# Phases of an upgrade in which the power is cut; and as soon as it has been told that it is committed.
CUTS = ("plan", "prepare", "freeze", "exec", "services", "commit", "committed")

SCENARIOS = {
    "boot": "boots, runs its services, and shuts down with clean file systems",
    "upgrade": "is upgraded to a second image of the same kind",
    "rollback": "a service does not get ready on the new image; and `initctl rollback`",
    "single": "the kernel command line says single",
    "rescue": "the kernel command line says rescue",
    "emergency": "the kernel command line says emergency",
    "load": "is upgraded while clients from outside are served",
    "library": "a library of the new init goes away before it is executed",
    "killed": "the new init is killed while it takes over",
    "dstate": "a process that waits for a disk cannot be frozen",
    **{f"cut-{phase}": f"the power is cut in the phase {phase}, and it boots what is its default"
       for phase in CUTS},
    "oom": "the kernel kills a service that takes all memory",
    "full": "/run and /var are full",
    "processes": "2000 processes have a working directory on the image",
    "hundred": "100 upgrades in one boot",
    "kexec": "goes down and boots a kernel that was loaded by kexec",
    "watchdog": "a watchdog stays fed through an upgrade, and resets a machine whose PID 1 hangs",
}

# Scenarios whose every combination is run; the others are about molt and the kernel, not about the
# root: one root.
EVERYWHERE = ("boot", "upgrade", "rollback")
PLAIN_ROOT = "ext4"

# A distribution as it is, with the kernel that it has. Minutes for each: those of the first two
# scenarios say all that it has to say.
STOCK = "stock"
STOCK_CELLS = tuple(("x86_64", "6.12", STOCK, scenario) for scenario in ("boot", "upgrade"))

# Those whose machine can be saved once it has booted, and be started from there. QEMU cannot save
# an NVMe controller.
SAVED_ROOTS = tuple(root for root in ROOTS if root not in ("nvme", STOCK))

# Scenarios that say something on the kernel command line: they boot.
WORDS = ("single", "rescue", "emergency")

# Scenarios that an emulated machine of another architecture would need most of an hour for.
LONG = ("hundred", "processes")

# What molt cannot do yet: scenario -> why.
NOT_YET: dict[str, str] = {}

# What the running system lacks, in words that the refusal of an upgrade has to have. (5.10: see
# README.md, Linux 5.15 or later.)
REFUSED_ROOTS = {"initramfs": "the running root is the initramfs itself"}
REFUSED_KERNELS = {"5.10": "5.15"}


@dataclass(frozen=True, order=True)
class Cell:
    """One combination."""

    architecture: str
    kernel: str
    root: str
    scenario: str

    @property
    def name(self) -> str:
        return "/".join((self.architecture, self.kernel, self.root, self.scenario))

    @property
    def refusal(self) -> str:
        """What a refusal of every upgrade has to say; "": they are not refused."""
        return REFUSED_KERNELS.get(self.kernel) or REFUSED_ROOTS.get(self.root, "")

    @property
    def from_saved(self) -> bool:
        """Whether it starts from a machine that has booted before, if there is one."""
        return self.root in SAVED_ROOTS and self.scenario not in WORDS

    @property
    def not_yet(self) -> str:
        """Why this cannot be run; "" if it can."""
        return NOT_YET.get(self.scenario, "")


def sensible(cell: Cell) -> bool:
    """Whether a combination tells anything that another does not."""
    if cell.root == STOCK:
        return (cell.architecture, cell.kernel, cell.root, cell.scenario) in STOCK_CELLS
    if cell.scenario not in EVERYWHERE and cell.root != PLAIN_ROOT:
        return False
    if cell.scenario in LONG and cell.architecture != "x86_64":
        return False
    if cell.refusal:
        # Of an upgrade that is refused one is enough, and none of what it does is there.
        return cell.scenario in ("boot", "upgrade", *WORDS, "oom")
    return True


def all_cells() -> list[Cell]:
    """The whole matrix. Those that have their disks in common follow each other, a boot first: it leaves
    to the others what they start from."""
    every = (Cell(a, k, r, s) for k in KERNELS for a in ARCHITECTURES for r in ROOTS for s in SCENARIOS)
    return [cell for cell in every if sensible(cell)]


def place(cell: Cell) -> tuple[int, ...]:
    """Where it stands in a list of cells: by kernel, architecture, root and scenario."""
    axes = ((cell.kernel, KERNELS), (cell.architecture, ARCHITECTURES), (cell.root, ROOTS),
            (cell.scenario, SCENARIOS))
    return tuple(list(known).index(word) for word, known in axes)


def parse(name: str) -> Cell:
    """The cell of that name, which need not be among all_cells(): ValueError tells what is wrong."""
    words = name.split("/")
    axes = (("architecture", ARCHITECTURES), ("kernel", KERNELS), ("root", ROOTS),
            ("scenario", SCENARIOS))
    if len(words) != len(axes):
        raise ValueError(f"{name}: a cell is ARCHITECTURE/KERNEL/ROOT/SCENARIO{_nearest(name)}")
    for word, (what, known) in zip(words, axes):
        if word not in known:
            raise ValueError(f"{name}: no {what} {word}; there are {', '.join(known)}{_nearest(name)}")
    return Cell(*words)


def select(patterns: Iterable[str]) -> list[Cell]:
    """The cells whose names match one of the patterns (of a shell; none: all). One that is named in
    full is taken even if it does not make sense. ValueError if a pattern matches nothing."""
    everything = all_cells()
    chosen: dict[Cell, None] = {}
    for pattern in patterns:
        matching = [cell for cell in everything if _matches(cell.name, pattern)]
        if not matching and not set(pattern) & set("*?["):
            matching = [parse(pattern)]
        if not matching:
            raise ValueError(f"no cell matches {pattern}: they are ARCHITECTURE/KERNEL/ROOT/SCENARIO"
                             f"{_nearest(pattern)}")
        chosen |= dict.fromkeys(matching)
    return sorted(chosen, key=place) if chosen else everything


def _nearest(name: str) -> str:
    """As the end of a sentence: the cells whose names are like that one."""
    near = difflib.get_close_matches(name, [cell.name for cell in all_cells()], 3, 0.7)
    return f". Near it: {', '.join(near)}" if near else ""


def _matches(name: str, pattern: str) -> bool:
    """Word by word, so that a star does not match what two axes have in common."""
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))
