# SPDX-License-Identifier: MIT
"""One boot of a real kernel, and every kind of image that it can be upgraded to."""
import pathlib

import pytest

from machine import BUILD
from qemu.kinds import all_kinds


@pytest.mark.alone
def test_every_kind():
    all_kinds(BUILD, pathlib.Path(BUILD) / "qemu-kinds")
