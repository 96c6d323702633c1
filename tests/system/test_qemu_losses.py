# SPDX-License-Identifier: MIT
"""Every boot partition that a loss of power can leave while molt-image is at work (qemu/sidebyside/losses.py)."""
import pathlib

import pytest

from machine import BUILD
from qemu.sidebyside import losses


@pytest.mark.alone
@pytest.mark.parametrize("name", ["systemd-boot on FAT", "extlinux on ext4"])
def test_every_disk(name, tmp_path):
    """`make sidebyside` draws more of them."""
    log = pathlib.Path(BUILD) / "qemu-losses"
    log.mkdir(exist_ok=True)
    losses.story(name, tmp_path, log, 3)
