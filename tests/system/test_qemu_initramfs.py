# SPDX-License-Identifier: MIT
"""molt as /init of an initramfs: a root that does not come, with a shell for a person who mounts another; and a squashfs
behind dm-verity below an overlay, of which nothing is in use in the end. More of them: `make initramfs-test`."""
import pathlib

import pytest

from machine import BUILD
from qemu.initramfs_boots import some


@pytest.mark.alone
def test_roots_that_are_found_and_let_go():
    some(BUILD, pathlib.Path(BUILD) / "qemu-initramfs", ["lost", "verified"])
