# SPDX-License-Identifier: MIT
"""A tree of files, and the archive that a kernel unpacks it from."""

from __future__ import annotations

import gzip
import os
import re
import stat
from pathlib import Path

from missing import Missing, run_zstd

COMPRESSIONS = ("gzip", "zstd", "none")


class Tree:
    """Files by their paths, without a slash in front."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, bytes]] = {}

    def directory(self, path: str) -> None:
        if path and path not in self.entries:
            self.directory(os.path.dirname(path))
            self.entries[path] = (stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> str:
        """Returns where it lies, by the links into /usr."""
        path = merged(path)
        self.directory(os.path.dirname(path))
        self.entries[path] = (stat.S_IFREG | mode, data)
        return path

    def link(self, path: str, target: str) -> str:
        path = merged(path)
        self.directory(os.path.dirname(path))
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())
        return path


def merged(path: str) -> str:
    """/bin, /sbin and the /lib* are links into /usr."""
    path = os.path.normpath(path).lstrip("/")
    first = path.split("/")[0]
    return f"usr/{path}" if re.fullmatch(r"bin|sbin|lib\w*", first) and "/" in path else path


def pack(tree: Tree) -> bytes:
    parts = [_member(name, number, *tree.entries[name])
             for number, name in enumerate(sorted(tree.entries), start=1)]
    return b"".join([*parts, _member("TRAILER!!!", 0, 0, b"")])


def _member(name: str, number: int, mode: int, data: bytes) -> bytes:
    """In the format "newc" (the kernel's buffer-format.rst): thirteen numbers of eight hexadecimal
    digits; header and name, and then the data, are filled up to four bytes. No times, no owners."""
    text = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(text), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers) + text
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def compress(data: bytes, how: str) -> bytes:
    """The same bytes for the same data: no times, and no threads that share the work."""
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return run_zstd(["-10", "--single-thread", "-cq"], data, "for --compress zstd")
    return data


def write(path: Path, data: bytes) -> None:
    """Whole or not at all: a machine boots from it."""
    unfinished = path.with_name(f".{path.name}.new")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Missing(f"cannot write {path}: {error.strerror}") from None
