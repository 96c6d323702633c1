# SPDX-License-Identifier: MIT
"""What is in a wtmp(5): glibc's records of 384 bytes on x86-64."""

from __future__ import annotations

import struct

RECORD = struct.Struct("hi32s4s32s256shhiii4i20x")
RUN_LEVEL, BOOT, GETTY, DEAD = 1, 2, 5, 8


def read(data: bytes) -> list[tuple[int, str, str]]:
    """Type, user and line of each record."""
    assert len(data) % RECORD.size == 0, f"{len(data)} bytes are no wtmp"
    return [(fields[0], _text(fields[4]), _text(fields[2])) for fields in RECORD.iter_unpack(data)]


def check(data: bytes) -> None:
    """Of the machine, four boots less the first, which never came so far: two that ended as they should, and one that was cut off."""
    records = read(data)
    machine = [(kind, user) for kind, user, line in records if line == "~"]
    up = [(BOOT, "reboot"), (RUN_LEVEL, "runlevel")]
    down = [(RUN_LEVEL, "shutdown")]
    assert machine == [*up, *down, *up, *up, *down], machine
    kinds = {kind for kind, _, line in records if line == "ttyS0"}
    assert {GETTY, DEAD} <= kinds, records  # PID 1's: Debian 13's agetty and login write none


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode()
