# SPDX-License-Identifier: MIT
"""A cell for a person to sit in front of: its console is this terminal."""

from __future__ import annotations

import os
import select
import sys
import tempfile
import termios
import tty
from pathlib import Path

from qemu.machine import Machine
from qemu.matrix.cell import set_up
from qemu.matrix import stock
from qemu.matrix.cells import STOCK, WORDS, Cell
from qemu.matrix.materials import Materials
from qemu.progress import say

QUIT = b"\x1d"  # Ctrl-]


def sit(chosen: list[Cell], found: Materials, out: Path) -> int:
    """Boots the cell's first image into its services, with a shell on the console."""
    if len(chosen) != 1:
        sys.exit(f"matrix: one cell, not {len(chosen)}: CELL=x86_64/6.12/erofs/upgrade")
    cell = chosen[0]
    why = cell.not_yet or found.why_not(cell)
    if why:
        sys.exit(f"matrix: {cell.name}: {why}")
    log = out / "shell"
    log.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="molt-cell-") as work:
        if cell.root == STOCK:
            with stock.machine(cell, found, Path(work), log) as vm:
                say(f"{cell.name}: Ctrl-] pulls the plug. root has no password. The second image:\n"
                    f"{stock.SECOND}\ninitctl upgrade /new")
                _relay(vm)
            return 0
        stage = set_up(cell, found, Path(work), log)
        words = [cell.scenario] if cell.scenario in WORDS else []
        with stage.machine(" ".join(["molt.debug", *words])) as vm:
            if not words:
                say(f"{cell.name}: boots")
                stage.check(stage.up(vm), "initctl start console.service")
            say(f"{cell.name}: Ctrl-] pulls the plug. The second image:\n{stage.disks.new}\n"
                f"initctl upgrade {stage.disks.image}")
            _relay(vm)
    return 0


def _relay(vm: Machine) -> None:
    """Keys to the guest, its console here, until the machine is off or Ctrl-] was pressed."""
    keyboard = sys.stdin.fileno()
    terminal = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    shown = 0
    try:
        if terminal:
            tty.setraw(keyboard)
        while vm.running():
            text = vm.console.text()
            os.write(sys.stdout.fileno(), text[shown:].encode())
            shown = len(text)
            if select.select([keyboard], [], [], 0.05)[0]:
                keys = os.read(keyboard, 256)
                if not keys or QUIT in keys:
                    return
                vm.console.send(keys)
        os.write(sys.stdout.fileno(), vm.console.text()[shown:].encode())
    finally:
        if terminal:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, terminal)
