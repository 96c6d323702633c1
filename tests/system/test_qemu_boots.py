# SPDX-License-Identifier: MIT
"""Ways up and ways down of a real kernel: after an initramfs, single, emergency, with a broken
fstab; power-off, reboot, the three keys, halt; with services that do not want to stop."""
import pathlib

import pytest

from machine import BUILD
from qemu.boots import all_stories


@pytest.mark.alone
def test_ways_up_and_down():
    all_stories(BUILD, pathlib.Path(BUILD) / "qemu-boots")
