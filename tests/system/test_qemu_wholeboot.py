# SPDX-License-Identifier: MIT
"""The boot of a Debian 13 with its own udevd, agetty, sulogin, fsck, swap, kexec and hardware watchdog, from a damaged root to
the three keys. Four boots of Debian's own kernel, emulated: `make boots`, no part of `make test`."""
import pathlib

import pytest

from machine import BUILD
from qemu.wholeboot.boots import whole


@pytest.mark.long
def test_boot_whole():
    whole(pathlib.Path(BUILD), pathlib.Path(BUILD) / "wholeboot")
