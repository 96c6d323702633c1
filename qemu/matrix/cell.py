# SPDX-License-Identifier: MIT
"""One cell, as a program of its own: python3 -m qemu.matrix.cell MATERIALS LOG CELL."""

from __future__ import annotations

import resource
import sys
import tempfile
import traceback
from pathlib import Path

from qemu import child
from qemu.matrix import base, cells, materials, stock
from qemu.matrix.runner import EXIT_REFUSED, EXIT_SKIPPED, WHY
from qemu.matrix.scenarios import PLAYS
from qemu.matrix.stage import Stage


def set_up(cell: cells.Cell, found: materials.Materials, directory: Path, log: Path) -> Stage:
    """Its own disks are made in the directory."""
    linux = found.kernels[f"{cell.architecture}/{cell.kernel}"]
    common = base.Base(Path(found.bases) / base.name(cell), found.keys[cell.architecture])
    common.make(cell, Path(found.systems[cell.architecture]), Path(linux["image"]),
                Path(linux["modules"]))
    return Stage(cell, Path(linux["image"]), common, directory, log)


def play(cell: cells.Cell, found: materials.Materials, directory: Path, log: Path) -> bool:
    """True: molt has refused what it has to refuse."""
    if cell.root == cells.STOCK:
        stock.play(cell, found, directory, log)
        return False
    return bool(PLAYS[cell.scenario](set_up(cell, found, directory, log)))


def main() -> int:
    child.exit_on_signals()
    found, log, cell = materials.load(Path(sys.argv[1])), Path(sys.argv[2]), cells.parse(sys.argv[3])
    if why := found.why_not(cell):
        (log / WHY).write_text(why)
        return EXIT_SKIPPED
    try:
        with tempfile.TemporaryDirectory(prefix="molt-cell-", dir=found.work or None) as work:
            refused = play(cell, found, Path(work), log)
    except Exception as error:  # of the cell, or of the scripts: whoever reads the table is told
        traceback.print_exc()
        (log / WHY).write_text(str(error) or repr(error))
        return 1
    finally:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{used.ru_utime + used.ru_stime:.1f} s of processor time", flush=True)
    return EXIT_REFUSED if refused else 0


if __name__ == "__main__":
    sys.exit(main())
