# SPDX-License-Identifier: MIT
"""Runs cells, several at a time, each as a program of its own: what happens to one is nothing to the
others, and a cell that hangs is killed with all it has started.

Cells come in groups that have something in common, which the first of them makes: until it is done the
others of its group wait, and those of other groups are run.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from qemu.matrix.cells import Cell
from qemu.matrix.outcome import Outcome, State

WHY = "why"  # a file in the log directory of a cell, beside log (what it told) and the consoles
EXIT_SKIPPED = 77  # as Automake has it
EXIT_REFUSED = 78  # passed: molt refused by name what it has to refuse
PATIENCE = 20.0  # for a cell to take its machine down before it is killed

Command = Callable[[Cell, Path], list[str]]


class Queue:
    """What is to be run, in order, as far as their groups allow it. Not for several threads at once."""

    def __init__(self, cells: Iterable[Cell], group: Callable[[Cell], str]) -> None:
        self._waiting = list(cells)
        self._group = group
        self._made: set[str] = set()
        self._making: set[str] = set()
        self._left = collections.Counter(map(group, self._waiting))

    @property
    def empty(self) -> bool:
        return not self._waiting

    def take(self) -> Cell | None:
        """The next one; None: all that are left have to wait, or none is left."""
        for cell in self._waiting:
            if self._group(cell) not in self._making:
                self._waiting.remove(cell)
                if self._group(cell) not in self._made:
                    self._making.add(self._group(cell))
                return cell
        return None

    def ended(self, cell: Cell) -> bool:
        """Whether it was the last one of its group."""
        group = self._group(cell)
        self._making.discard(group)
        self._made.add(group)
        self._left[group] -= 1
        return not self._left[group]

    def clear(self) -> None:
        self._waiting.clear()


class Runner:
    """`command` is given the cell and the directory of its logs."""

    def __init__(self, command: Command, out: Path, jobs: int, timeout: Callable[[Cell], float],
                 tell: Callable[[str, Cell, Outcome | None], None] = lambda *_: None,
                 group: Callable[[Cell], str] = lambda cell: cell.name,
                 group_ended: Callable[[str], None] = lambda _: None) -> None:
        self._command = command
        self._out = out
        self._jobs = jobs
        self._timeout = timeout
        self._tell = tell  # "begin" or "end"; one at a time
        self._group = group
        self._group_ended = group_ended
        self._changed = threading.Condition()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._outcomes: dict[Cell, Outcome] = {}
        self._error: BaseException | None = None
        self._queue = Queue([], group)

    def run(self, cells: Iterable[Cell]) -> list[Outcome]:
        """All of them; in that order in the result, and about so in time. An interruption ends what runs
        before it goes on its way."""
        chosen = list(cells)
        self._queue = Queue(chosen, self._group)
        threads = [threading.Thread(target=self._work) for _ in range(self._jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop()
            for thread in threads:
                thread.join()
            raise
        if self._error:
            raise self._error
        return [self._outcomes[cell] for cell in chosen]

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._queue.clear()
            for process in self._running:
                _signal(process, signal.SIGTERM)
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while cell := self._take():
                outcome = self._one(cell)
                with self._changed:
                    if not self._stopped:
                        self._tell("end", cell, outcome)
                        self._outcomes[cell] = outcome
                    if self._queue.ended(cell):
                        self._group_ended(self._group(cell))
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
            self._stop()

    def _take(self) -> Cell | None:
        with self._changed:
            while not (cell := self._queue.take()) and not self._queue.empty:
                self._changed.wait()
            return cell

    def _one(self, cell: Cell) -> Outcome:
        if cell.not_yet:
            return Outcome(cell, State.NOT_YET, why=cell.not_yet)
        with self._changed:
            self._tell("begin", cell, None)
        log = self._out / "cells" / cell.name
        log.mkdir(parents=True, exist_ok=True)
        for old in log.iterdir():
            if old.is_file():
                old.unlink()
        begin = time.monotonic()
        code, ended = self._execute(cell, log)
        seconds = time.monotonic() - begin
        why = _read(log / WHY) or ended
        states = {0: State.PASSED, EXIT_SKIPPED: State.SKIPPED, EXIT_REFUSED: State.REFUSED}
        state = states.get(code, State.FAILED)
        if state is State.FAILED and not why:
            why = f"exit {code}: {_read(log / 'log')[-1500:].strip()}"
        return Outcome(cell, state, seconds, why, log)

    def _execute(self, cell: Cell, log: Path) -> tuple[int, str]:
        """The exit code, and why there is none of its own."""
        with (log / "log").open("wb") as output:
            with self._changed:
                if self._stopped:
                    return 1, "interrupted"
                process = subprocess.Popen(self._command(cell, log), stdin=subprocess.DEVNULL,
                                           stdout=output, stderr=output, start_new_session=True)
                self._running.add(process)
            try:
                return process.wait(self._timeout(cell)), ""
            except subprocess.TimeoutExpired:
                _end(process)
                return 1, f"not done within {self._timeout(cell):.0f} s, and killed"
            finally:
                with self._changed:
                    self._running.discard(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
