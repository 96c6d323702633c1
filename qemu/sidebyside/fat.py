# SPDX-License-Identifier: MIT
"""Reads FAT32 as a firmware does that knows of nothing but what is on the disk: no journal, no fsck.

Whatever cannot be read raises Damaged. A long name whose parts do not fit the short one does not count.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

END = 0x0FFFFFF8


class Damaged(Exception):
    """The text says where."""


@dataclass(frozen=True)
class Entry:
    name: str
    directory: bool
    cluster: int
    size: int


class Fat:
    """A disk that is one file system."""

    def __init__(self, disk: bytes | mmap.mmap) -> None:
        self._disk = disk
        boot = disk[:512]
        sector, self._sectors, reserved, copies = struct.unpack_from("<HBHB", boot, 11)
        size, = struct.unpack_from("<I", boot, 36)
        self._root, = struct.unpack_from("<I", boot, 44)
        if sector != 512 or boot[510:512] != b"\x55\xaa":
            raise Damaged("no boot sector")
        self._table = reserved * 512
        self._data = self._table + copies * size * 512
        self._cluster = self._sectors * 512

    def list(self, path: str) -> dict[str, Entry]:
        """What is in a directory, by names in lower case."""
        cluster = self._root
        for part in path.strip("/").split("/"):
            if part:
                found = self._read_directory(cluster).get(part.lower())
                if not found or not found.directory:
                    raise Damaged(f"no directory {path}")
                cluster = found.cluster
        return self._read_directory(cluster)

    def read(self, path: str) -> bytes:
        directory, _, name = path.rpartition("/")
        found = self.list(directory).get(name.lower())
        if not found or found.directory:
            raise Damaged(f"no file {path}")
        return self._content(found.cluster, found.size, path)

    def _content(self, cluster: int, size: int, what: str) -> bytes:
        if size == 0:
            return b""
        data = bytearray()
        for first, count in self._runs(cluster, what):
            begin = self._data + (first - 2) * self._cluster
            data += self._disk[begin:begin + count * self._cluster]
            if len(data) >= size > 0:
                return bytes(data[:size])
        if size < 0:
            return bytes(data)
        raise Damaged(f"{what} is shorter than its size")

    def _runs(self, cluster: int, what: str) -> Iterator[tuple[int, int]]:
        """A chain, as runs of clusters that follow each other."""
        first, count, seen = cluster, 0, 0
        while cluster < END:
            if cluster < 2 or seen > 1 << 20:
                raise Damaged(f"{what} leads to a cluster that is free")
            count, seen = count + 1, seen + 1
            following, = struct.unpack_from("<I", self._disk, self._table + cluster * 4)
            following &= 0x0FFFFFFF
            if following != cluster + 1:
                yield first, count
                first, count = following, 0
            cluster = following

    def _read_directory(self, cluster: int) -> dict[str, Entry]:
        data = self._content(cluster, -1, "a directory")
        found: dict[str, Entry] = {}
        parts: list[tuple[int, int, str]] = []
        for at in range(0, len(data), 32):
            slot = data[at:at + 32]
            if slot[0] == 0:
                break
            if slot[0] == 0xE5:
                parts = []
            elif slot[11] == 0x0F:
                text = (slot[1:11] + slot[14:26] + slot[28:32]).decode("utf-16-le", "replace")
                parts.append((slot[0], slot[13], text.split("\0")[0]))
            elif not slot[11] & 0x08:
                name = _long_name(parts, slot[:11]) or _short_name(slot[:11])
                high, low, size = struct.unpack_from("<HxxxxHI", slot, 20)
                found[name.lower()] = Entry(name, bool(slot[11] & 0x10), high << 16 | low, size)
                parts = []
            else:
                parts = []
        return found


def _short_name(raw: bytes) -> str:
    name, end = raw[:8].decode("latin-1").rstrip(), raw[8:].decode("latin-1").rstrip()
    return f"{name}.{end}" if end else name


def _long_name(parts: list[tuple[int, int, str]], short: bytes) -> str:
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    numbers = [number for number, _, _ in parts]
    expected = list(range(len(parts), 0, -1))
    if not parts or numbers[0] & 0x40 == 0 or [numbers[0] & 0x3F, *numbers[1:]] != expected or \
            any(check != total for _, check, _ in parts):
        return ""
    return "".join(text for _, _, text in reversed(parts))
