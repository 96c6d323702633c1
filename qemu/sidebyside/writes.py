# SPDX-License-Identifier: MIT
"""What a guest has written to a disk, in its order and with its flushes, as QEMU's blklogwrites notes it;
and every disk that a loss of power could have left of it.

A disk may keep what it was given since the last flush to itself, and lose any sector of it: which of
them is drawn by lot. All of a flush before that is on it.
"""

from __future__ import annotations

import mmap
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4


@dataclass(frozen=True)
class Write:
    at: int
    data: bytes
    flush: bool  # all that came before is on the disk
    through: bool  # so is this


def read(log: Path) -> list[Write]:
    data = log.read_bytes()
    magic, _, _, sector = struct.unpack_from("<QQQI", data)
    if magic != MAGIC or sector != SECTOR:
        raise ValueError(f"{log} is no log of writes")
    found: list[Write] = []
    at = SECTOR
    while at + 32 <= len(data):
        where, count, flags, length = struct.unpack_from("<QQQQ", data, at)
        if flags == 0 and count == 0:
            break
        at += SECTOR
        if flags & DISCARD:
            found.append(Write(where * SECTOR, b"", bool(flags & FLUSH), False))
            continue
        size = count * SECTOR
        found.append(Write(where * SECTOR, data[at:at + size], bool(flags & FLUSH), bool(flags & FUA)))
        at += size
    return found


class Disk:
    """A disk that writes arrive at: a copy of `image`, as the file `path` and in memory."""

    def __init__(self, image: Path, path: Path) -> None:
        shutil.copyfile(image, path)
        self.path = path
        with path.open("r+b") as file:
            self.data = mmap.mmap(file.fileno(), 0)
        self._open: list[Write] = []  # since the last flush

    def take(self, write: Write) -> None:
        if write.flush:
            for earlier in self._open:
                self._apply(earlier)
            self._open = []
        if write.through:
            self._apply(write)
        elif write.data:
            self._open.append(write)

    def pending(self) -> int:
        return len(self._open)

    def outcomes(self, chance: random.Random, drawn: int) -> Iterator[str]:
        """The disk as it could be found now, one after the other, with a word for each: nothing of what is
        open has arrived, all of it, and so many times a part. It is as it was after each."""
        sectors = [(write.at + n, write.data[n:n + SECTOR]) for write in self._open
                   for n in range(0, len(write.data), SECTOR)]
        for choice in range(drawn + 2):
            if choice < 2:
                some = sectors if choice else []
            else:
                share = chance.random()
                some = [sector for sector in sectors if chance.random() < share]
                if len(some) > 1 and chance.random() < 0.5:
                    chance.shuffle(some)
            before = [(at, bytes(self.data[at:at + SECTOR])) for at, _ in some]
            for at, data in some:
                self.data[at:at + SECTOR] = data
            yield ("nothing", "all")[choice] if choice < 2 else f"part {choice}"
            for at, data in reversed(before):
                self.data[at:at + SECTOR] = data

    def _apply(self, write: Write) -> None:
        self.data[write.at:write.at + len(write.data)] = write.data
