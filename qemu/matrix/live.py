# SPDX-License-Identifier: MIT
"""The table while it fills: drawn anew in the place of the one before, on a terminal."""

from __future__ import annotations

import shutil
import sys
import time

from qemu.matrix import outcome
from qemu.matrix.cells import Cell
from qemu.matrix.outcome import Outcome, State
from qemu.progress import say

SIGNS = {State.PASSED: "ok", State.REFUSED: "ref", State.FAILED: "FAIL", State.NOT_YET: "later",
         State.SKIPPED: "skip"}
WAITS, RUNS = ".", "..."
COLUMN = 8


def draw(chosen: list[Cell], done: dict[Cell, Outcome], running: list[Cell], width: int,
         height: int) -> list[str]:
    """Lines for a terminal of that size. Where it is too low, rows that are over and well are left out
    first, and then those that have not begun."""
    columns = outcome.columns(chosen)
    rows = {row: [c for c in chosen if (c.scenario, c.root) == row] for row in outcome.rows(chosen)}
    order = sorted(rows, key=lambda row: (-_interest(rows[row], done, running), list(rows).index(row)))
    shown = set(order[:max(1, height - 5)])
    lines = [" " * 20 + "".join(f"{a[:COLUMN - 1]:<{COLUMN}}" for a, _ in columns),
             " " * 20 + "".join(f"{k[:COLUMN - 1]:<{COLUMN}}" for _, k in columns)]
    for row in rows:
        if row in shown:
            there = {(c.architecture, c.kernel): c for c in rows[row]}
            signs = (_sign(there.get(column), done, running) for column in columns)
            lines.append(f"{' '.join(row):<20}" + "".join(f"{sign:<{COLUMN}}" for sign in signs))
    if len(shown) < len(rows):
        lines.append(f"and {len(rows) - len(shown)} more rows")
    return [line[:width - 1].rstrip() for line in lines]


def _interest(cells: list[Cell], done: dict[Cell, Outcome], running: list[Cell]) -> int:
    if any(c in done and done[c].state is State.FAILED for c in cells):
        return 3
    if any(c in running for c in cells):
        return 2
    return 1 if any(c not in done for c in cells) else 0


def _sign(cell: Cell | None, done: dict[Cell, Outcome], running: list[Cell]) -> str:
    if not cell:
        return ""
    if cell in done:
        return SIGNS[done[cell].state]
    return RUNS if cell in running else WAITS


class Progress:
    """Tells what begins and ends: as a table on a terminal, in lines elsewhere."""

    def __init__(self, chosen: list[Cell], done: dict[Cell, Outcome]) -> None:
        self._chosen = chosen
        self._done = dict(done)
        self._running: list[Cell] = []
        self._terminal = sys.stderr.isatty()
        self._drawn = 0  # lines, above the cursor
        self._since = time.monotonic()
        self._at_first = len(done)

    def begins(self, cell: Cell) -> None:
        self._running.append(cell)
        if self._terminal:
            self._redraw()
        else:
            say(f"{'begins':<8} {cell.name}")

    def ended(self, ended: Outcome) -> None:
        if ended.cell in self._running:
            self._running.remove(ended.cell)
        self._done[ended.cell] = ended
        if self._terminal:
            self._redraw(outcome.line(ended) if ended.state is State.FAILED else "")
        elif ended.state is not State.NOT_YET:
            say(f"{outcome.line(ended)}   [{len(self._done)} of {len(self._chosen)}]")

    def clear(self) -> None:
        """Makes way for the last table."""
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            sys.stderr.flush()
        self._drawn = 0

    def _redraw(self, remark: str = "") -> None:
        """The remark stays above the table."""
        size = shutil.get_terminal_size()
        lines = draw(self._chosen, self._done, self._running, size.columns, size.lines - 1)
        lines.append(f"{self._state()}"[:size.columns - 1])
        self.clear()
        if remark:
            sys.stderr.write(f"{remark}\n")
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _state(self) -> str:
        seconds = time.monotonic() - self._since
        new = len(self._done) - self._at_first
        text = f"{len(self._done)} of {len(self._chosen)} cells in {_clock(seconds)}"
        if new >= 5:  # about: cells are not alike
            text += f", about {_clock(seconds / new * (len(self._chosen) - len(self._done)))} to go"
        return "; ".join([text, *(f"{cell.name} runs" for cell in self._running)])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
