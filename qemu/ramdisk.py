# SPDX-License-Identifier: MIT
"""An initramfs that is the whole system: a directory as a cpio archive. That which finds a root and
makes way for it is made by conf/initramfs (qemu/initramfs.py)."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path


def pack(tree: Path, path: Path) -> None:
    """Writes an initramfs of all that is in a directory: files, directories, symbolic links."""
    entries = []
    for file in sorted(tree.rglob("*")):
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            data = os.readlink(file).encode()
        else:
            data = b"" if stat.S_ISDIR(mode) else file.read_bytes()
        entries.append(_entry(str(file.relative_to(tree)), mode, data))
    _write(path, entries)


def _write(path: Path, entries: list[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join([*entries, _entry("TRAILER!!!", 0, b"")]), 1))


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """One member in cpio's "newc" format (the kernel's buffer-format.rst): thirteen numbers of eight
    hexadecimal digits; header and name, and then the data, are filled up to four bytes."""
    text = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    inode, user, group, time, major, minor, check = 0, 0, 0, 0, 0, 0, 0
    numbers = (inode, mode, user, group, links, time, len(data), major, minor, major, minor,
               len(text), check)
    return _filled(b"070701" + b"".join(b"%08x" % n for n in numbers) + text) + _filled(data)


def _filled(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
