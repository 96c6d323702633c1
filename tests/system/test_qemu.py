# SPDX-License-Identifier: MIT
"""One boot of a real kernel: molt as /sbin/init, an upgrade under load, a clean power-off."""
import pathlib

import pytest

from machine import BUILD
from qemu.boottest import boot_upgrade_poweroff


@pytest.mark.alone
def test_boot_upgrade_poweroff():
    log = pathlib.Path(BUILD) / "boottest"
    log.mkdir(parents=True, exist_ok=True)
    boot_upgrade_poweroff(BUILD, log)
