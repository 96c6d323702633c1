# SPDX-License-Identifier: MIT
"""What a program of the target needs: read from its ELF headers (elf(5)), so that nothing of it is
run and it may be of another architecture."""

from __future__ import annotations

import glob
import os
import struct
from pathlib import Path

LOAD, DYNAMIC, INTERPRETER = 1, 2, 3  # kinds of segments
NEEDED, STRINGS, RPATH, RUNPATH = 1, 5, 15, 29  # tags of the dynamic section


class NotElf(Exception):
    """The text says which file, and what is wrong with it."""


class Elf:
    """`kind` tells architectures apart: class, byte order, machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = data = path.read_bytes()
        if data[:4] != b"\x7fELF" or len(data) < 64:
            raise NotElf(f"{path} is not a program: it is no ELF file")
        self._wide = data[4] == 2
        self._order = "<" if data[5] == 1 else ">"
        self.kind = (data[4], data[5], *self._unpack("H", 18))
        self.interpreter = ""
        self.needed: list[str] = []
        self.search: list[str] = []
        try:
            self._read_segments()
        except (struct.error, ValueError, IndexError):
            raise NotElf(f"{path} is cut short or damaged: its ELF headers lead nowhere") from None

    def _unpack(self, letters: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + letters, self.data, at)

    def _read_segments(self) -> None:
        [table] = self._unpack("Q", 32) if self._wide else self._unpack("I", 28)
        size, count = self._unpack("HH", 54 if self._wide else 42)
        loads, dynamic = [], None
        for at in range(table, table + size * count, size):
            if self._wide:
                kind, _, offset, address, _, length = self._unpack("IIQQQQ", at)
            else:
                kind, offset, address, _, length = self._unpack("IIIII", at)
            if kind == LOAD:
                loads.append((address, offset, length))
            elif kind == DYNAMIC:
                dynamic = (offset, length)
            elif kind == INTERPRETER:
                self.interpreter = self._text(offset)
        if dynamic:
            self._read_dynamic(*dynamic, loads)

    def _read_dynamic(self, offset: int, length: int, loads: list[tuple[int, int, int]]) -> None:
        word = "QQ" if self._wide else "II"
        step = 16 if self._wide else 8
        entries = [self._unpack(word, at) for at in range(offset, offset + length, step)]
        address = next(value for tag, value in entries if tag == STRINGS)
        strings = next(o + address - a for a, o, n in loads if a <= address < a + n)
        for tag, value in entries:
            if tag == NEEDED:
                self.needed.append(self._text(strings + value))
            elif tag in (RPATH, RUNPATH):
                here = str(self.path.resolve().parent)
                self.search += [d.replace("$ORIGIN", here).replace("${ORIGIN}", here)
                                for d in self._text(strings + value).split(":") if d]

    def _text(self, at: int) -> str:
        return self.data[at:self.data.index(b"\0", at)].decode()


def usual_directories() -> list[str]:
    """Where libraries are: ld.so.conf(5), and where distributions have those of this and other
    architectures; which one a file is for its own header tells."""
    found = _configured("/etc/ld.so.conf", 0)
    for pattern in ("/lib/*-linux-*", "/usr/lib/*-linux-*", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
                    "/usr/*-linux-*/lib", "/usr/local/lib"):
        found += sorted(glob.glob(pattern))
    return list(dict.fromkeys(found))


def _configured(path: str, depth: int) -> list[str]:
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in (line.partition("#")[0].strip() for line in lines):
        if line.startswith("include ") and depth < 4:
            pattern = os.path.join(os.path.dirname(path), line.split(None, 1)[1])
            found += [d for file in sorted(glob.glob(pattern)) for d in _configured(file, depth + 1)]
        elif line.startswith("/"):
            found.append(line)
    return found


def find(name: str, like: Elf, directories: list[str]) -> Elf | None:
    """The library of that name for the architecture of `like`."""
    for directory in [*like.search, *directories]:
        path = Path(directory, name)
        try:
            library = Elf(path)
        except (OSError, NotElf):
            continue
        if library.kind == like.kind:
            return library
    return None
