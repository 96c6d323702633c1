# SPDX-License-Identifier: MIT
"""python3 -m qemu.matrix [--jobs N] [--list] [CELL...]: cells by their names, or patterns of a shell."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from qemu import child
from qemu.matrix import cells, materials, outcome, shell
from qemu.matrix.cells import Cell
from qemu.matrix.outcome import Outcome, State
from qemu.matrix.runner import Runner
from qemu.matrix.stage import slowness
from qemu.progress import say

# Seconds for a whole cell, of an emulated PC.
TIMEOUT = 900.0
TIMEOUTS = {"hundred": 3600.0, "processes": 1800.0}


def main() -> int:
    options = _options()
    child.exit_on_signals()
    try:
        chosen = cells.select(options.cells)
    except ValueError as error:
        sys.exit(f"matrix: {error}")
    if options.list:
        print("\n".join(cell.name + (f"  (not yet: {cell.not_yet})" if cell.not_yet else "")
                        for cell in chosen))
        return 0
    if os.geteuid() != 0:
        sys.exit("matrix: images of btrfs are mounted to be made: run it as root")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    builds = {"x86_64": options.build, "arm64": options.build / "arm64"}
    found = materials.gather(chosen, builds, out)
    found.save(out / "materials.json")
    if options.shell:
        return shell.sit(chosen, found, out)
    return _run(chosen, out, options.jobs)


def _run(chosen: list[Cell], out: Path, jobs: int) -> int:
    done: list[Outcome] = []

    def command(cell: Cell, log: Path) -> list[str]:
        return [sys.executable, "-m", "qemu.matrix.cell", str(out / "materials.json"), str(log), cell.name]

    def tell(what: str, cell: Cell, ended: Outcome | None) -> None:
        if ended is None:
            say(f"{'begins':<8} {cell.name}")
            return
        done.append(ended)
        if ended.state is not State.NOT_YET:
            say(f"{outcome.line(ended)}   [{len(done)} of {len(chosen)}]")
        _write(done, out)

    runner = Runner(command, out, jobs,
                    lambda cell: TIMEOUTS.get(cell.scenario, TIMEOUT) * max(1.0, slowness(cell)), tell)
    outcomes = runner.run(chosen)
    _write(outcomes, out)
    print(outcome.table(outcomes))
    print(f"{out}/index.html, {out}/junit.xml, logs of each cell below {out}/cells/")
    return outcome.exit_code(outcomes)


def _write(done: list[Outcome], out: Path) -> None:
    outcome.write_junit(done, out / "junit.xml")
    outcome.write_html(done, out / "index.html")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qemu.matrix", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("build/matrix"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only tell which cells these are")
    parser.add_argument("--shell", action="store_true", help="sit in front of the cell")
    parser.add_argument("cells", nargs="*", metavar="CELL")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
