# SPDX-License-Identifier: MIT
"""python3 -m qemu.matrix [--jobs N] [--list] [CELL...]: cells by their names, or patterns of a shell."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from qemu import child
from qemu.matrix import base, cells, materials, outcome, shell
from qemu.matrix.cells import Cell
from qemu.matrix.live import Progress
from qemu.matrix.materials import Materials
from qemu.matrix.outcome import Outcome, State
from qemu.matrix.runner import Runner
from qemu.matrix.stage import slowness
from qemu.progress import say

# Seconds for a whole cell, of an emulated PC.
TIMEOUT = 900.0
TIMEOUTS = {"hundred": 3600.0, "processes": 1800.0}
STOCK_TIMEOUT = 2400.0  # of it the half to make the disks


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
    with _only_one(out), _tidy(out, options.keep):
        builds = {"x86_64": options.build, "arm64": options.build / "arm64"}
        found = materials.gather(chosen, builds, out)
        found.save(out / "materials.json")
        if options.shell:
            return shell.sit(chosen, found, out)
        return _run(chosen, found, out, options)


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    with (out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"matrix: another one runs in {out}")
        yield


@contextlib.contextmanager
def _tidy(out: Path, keep: bool) -> Iterator[None]:
    """Nothing but reports is left, however it ends: or what other runs can start from as well."""
    shutil.rmtree(out / "work", ignore_errors=True)
    try:
        yield
    finally:
        made = () if keep else ("bases", "systems", "packages")
        for name in ("work", "materials.json", *made):
            _remove(out / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _run(chosen: list[Cell], found: Materials, out: Path, options: argparse.Namespace) -> int:
    earlier = outcome.load(out / "outcomes.json", found.key) if options.resume else []
    done = {o.cell: o for o in earlier}
    todo = [cell for cell in chosen if cell not in done]
    if earlier:
        say(f"{len(chosen) - len(todo)} cells were good in an earlier run, of the same build")
    progress = Progress(chosen, {cell: done[cell] for cell in chosen if cell in done})

    def command(cell: Cell, log: Path) -> list[str]:
        return [sys.executable, "-m", "qemu.matrix.cell", str(out / "materials.json"), str(log), cell.name]

    def tell(what: str, cell: Cell, ended: Outcome | None) -> None:
        if ended is None:
            progress.begins(cell)
            return
        done[cell] = ended
        progress.ended(ended)
        _write(done, out, found)

    def group_ended(group: str) -> None:
        if not options.keep:
            _remove(out / "bases" / group)

    runner = Runner(command, out, options.jobs,
                    lambda cell: _timeout(cell) * max(1.0, slowness(cell)), tell,
                    base.name, group_ended)
    try:
        runner.run(todo)
    finally:
        progress.clear()
        _write(done, out, found)
        print(outcome.table(done[cell] for cell in chosen if cell in done))
        print(f"{out}/index.html, {out}/junit.xml, logs of each cell below {out}/cells/", flush=True)
    return outcome.exit_code(done[cell] for cell in chosen)


def _timeout(cell: Cell) -> float:
    return STOCK_TIMEOUT if cell.root == cells.STOCK else TIMEOUTS.get(cell.scenario, TIMEOUT)


def _write(done: dict[Cell, Outcome], out: Path, found: Materials) -> None:
    order = [done[cell] for cell in sorted(done, key=cells.place)]
    outcome.save(order, out / "outcomes.json", found.key)
    outcome.write_junit(order, out / "junit.xml")
    outcome.write_html(order, out / "index.html")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qemu.matrix", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("build/matrix"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only tell which cells these are")
    parser.add_argument("--shell", action="store_true", help="sit in front of the cell")
    parser.add_argument("--resume", action="store_true",
                        help="take over what was good in an earlier run of the same build")
    parser.add_argument("--keep", action="store_true", help="keep disks and saved machines for the next run")
    parser.add_argument("cells", nargs="*", metavar="CELL")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
