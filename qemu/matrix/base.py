# SPDX-License-Identifier: MIT
"""What the cells of one architecture, kernel and root have in common: the disks, and a machine that has
booted from them and was saved, from which they start instead of booting again.

A directory below out/bases: the files of the disks, disks.json; and in booted/, once a first cell
has been there, the machine and the disks that are written to as they were at that moment. It is for
one cell at a time until booted/ is there (qemu/matrix/runner.py sees to that), and then for all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from qemu import child, deps
from qemu.lab import REPOSITORY
from qemu.machine import Machine
from qemu.matrix import system
from qemu.matrix.cells import Cell

MACHINE = "machine"
# On which what is in a base depends, beside the system and the kernel.
RECIPES = ("qemu/machine.py", "qemu/board.py", "qemu/ramdisk.py", "qemu/matrix/system.py",
           "qemu/matrix/modules.py", "qemu/matrix/base.py", "qemu/matrix/stage.py")
INITRAMFS = "conf/initramfs"


def fingerprint(files: Iterable[Path]) -> str:
    """Of their names and what is in them."""
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.is_file() and not file.is_symlink():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def of_system(tree: Path) -> str:
    """The fingerprint of what is made of that system."""
    return fingerprint([*tree.rglob("*"), *(REPOSITORY / name for name in RECIPES),
                        *(REPOSITORY / INITRAMFS).iterdir()])


def name(cell: Cell) -> str:
    return f"{cell.architecture}-{cell.kernel}-{cell.root}"


class Base:
    """`key` is that of the system: what was made of another is made anew."""

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = directory
        self._key = key
        self._booted = directory / "booted"

    def make(self, cell: Cell, tree: Path, linux: Path, modules: Path) -> None:
        """If it is not there."""
        if self._description().get("key") == f"{self._key} {linux}":
            return
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        disks = system.make(cell, tree, self.directory, linux, modules)
        text = json.dumps({"key": f"{self._key} {linux}", "disks": dataclasses.asdict(disks)})
        (self.directory / "disks.json").write_text(text)

    @property
    def disks(self) -> system.Disks:
        return system.Disks(**self._description()["disks"])

    @property
    def saved(self) -> Path | None:
        """The machine, if one has booted."""
        return self._booted / MACHINE if self._booted.is_dir() else None

    def copy_state(self, to: Path, booted: bool) -> dict[str, Path]:
        """The disks that are written to, for a machine of its own: new ones, or those of the machine
        that was saved."""
        copies = {}
        for serial, file in self.disks.state.items():
            copies[serial] = to / f"{serial}.disk"
            copy(self._booted / serial if booted else Path(file), copies[serial])
        return copies

    def save(self, vm: Machine, state: dict[str, Path]) -> None:
        """As it is now; it goes on afterwards."""
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.directory))
        try:
            vm.save(unfinished / MACHINE)
            for serial, file in state.items():
                copy(file, unfinished / serial)
            unfinished.rename(self._booted)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        vm.resume()

    def _description(self) -> dict:  # type: ignore[type-arg]
        try:
            return dict(json.loads((self.directory / "disks.json").read_text()))
        except OSError:
            return {}


def copy(source: Path, place: Path) -> None:
    """With its mode; where nothing is written in it nothing is in the copy."""
    child.check([deps.tool("cp"), "--preserve=mode", "--sparse=always", "--reflink=auto", str(source), str(place)])
