# SPDX-License-Identifier: MIT
"""The cells whose root is a stock Debian, on which apt has put our packages: what `make stock` plays, from
disks that they have in common. `boot` has its daemons at work and a login by ssh, `upgrade` all of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from qemu import stock
from qemu.kernel import Kernel
from qemu.machine import Machine
from qemu.matrix import base
from qemu.matrix.cells import Cell
from qemu.matrix.materials import Materials
from qemu.matrix.stage import slowness

SECOND = "mkdir -p /new; mount /dev/nvme0n2 /new"


def play(cell: Cell, found: Materials, directory: Path, log: Path) -> None:
    linux = _set_up(cell, found, directory, log)
    stock.play(linux.image, directory, log, cell.scenario == "upgrade", slowness(cell))


def machine(cell: Cell, found: Materials, directory: Path, log: Path) -> Machine:
    """For a person to sit in front of."""
    return stock.machine(_set_up(cell, found, directory, log).image, directory, log)


def _set_up(cell: Cell, found: Materials, directory: Path, log: Path) -> Kernel:
    """The disks of this cell alone, in its directory; the first of the cells makes those they are copied from."""
    paths = found.kernels[f"{cell.architecture}/{cell.kernel}"]
    modules = Path(paths["modules"])
    linux = Kernel(modules.name, Path(paths["image"]), modules.parents[3])
    common, made = Path(found.bases) / base.name(cell), f"{found.key(cell)}\n"
    if not (common / "made").is_file() or (common / "made").read_text() != made:
        shutil.rmtree(common, ignore_errors=True)
        common.mkdir(parents=True)
        stock.make(Path(found.packages), Path(found.tools), linux, common, log)
        (common / "made").write_text(made)
    for name in (*stock.DISKS, "key", "initrd"):
        base.copy(common / name, directory / name)
    return linux
