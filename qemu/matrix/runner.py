# SPDX-License-Identifier: MIT
"""Runs cells, several at a time, each as a program of its own: what happens to one is nothing to the
others, and a cell that hangs is killed with all it has started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qemu.matrix.cells import Cell
from qemu.matrix.outcome import Outcome, State

WHY = "why"  # a file in the log directory of a cell, beside log (what it told) and the consoles
EXIT_SKIPPED = 77  # as Automake has it
EXIT_REFUSED = 78  # passed: molt refused by name what it has to refuse
PATIENCE = 20.0  # for a cell to take its machine down before it is killed

Command = Callable[[Cell, Path], list[str]]


class Runner:
    """`command` is given the cell and the directory of its logs."""

    def __init__(self, command: Command, out: Path, jobs: int, timeout: Callable[[Cell], float],
                 tell: Callable[[str, Cell, Outcome | None], None] = lambda *_: None) -> None:
        self._command = command
        self._out = out
        self._jobs = jobs
        self._timeout = timeout
        self._tell = tell  # "begin" or "end"; one at a time
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, cells: Iterable[Cell]) -> list[Outcome]:
        """All of them, in order. An interruption ends what runs before it goes on its way."""
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(self._one, cell) for cell in cells]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop(futures)
                raise

    def _stop(self, futures: list) -> None:  # type: ignore[type-arg]
        for future in futures:
            future.cancel()
        with self._lock:
            self._stopped = True
            for process in self._running:
                _signal(process, signal.SIGTERM)

    def _one(self, cell: Cell) -> Outcome:
        if cell.not_yet:
            return self._ended(Outcome(cell, State.NOT_YET, why=cell.not_yet))
        with self._lock:
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
        return self._ended(Outcome(cell, state, seconds, why, log))

    def _ended(self, outcome: Outcome) -> Outcome:
        with self._lock:
            self._tell("end", outcome.cell, outcome)
        return outcome

    def _execute(self, cell: Cell, log: Path) -> tuple[int, str]:
        """The exit code, and why there is none of its own."""
        with (log / "log").open("wb") as output:
            with self._lock:
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
                with self._lock:
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
