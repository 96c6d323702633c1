# SPDX-License-Identifier: MIT
"""Every boot partition that a loss of power can leave while molt-image is at work (qemu/sidebyside/losses.py). `make
sidebyside` draws more of them, and looks at extlinux too."""
import pathlib

import pytest

from machine import BUILD
from qemu.sidebyside import losses


@pytest.mark.alone
def test_every_disk(tmp_path):
    log = pathlib.Path(BUILD) / "qemu-losses"
    log.mkdir(exist_ok=True)
    losses.story("systemd-boot on FAT", tmp_path, log, 3)
