# SPDX-License-Identifier: MIT
"""What is compiled anew."""
import os
import subprocess

import pytest

from machine import BUILD, TOP


@pytest.mark.parametrize("name", [str(BUILD), os.path.relpath(BUILD, TOP)], ids=["absolute", "relative"])
def test_a_header_that_changed_is_seen_however_the_directory_is_called(name):
    """`make install BUILD=$PWD/build` linked what knew a struct of before with what knew it of now."""
    said = subprocess.run(["make", "-n", "-C", TOP, f"BUILD={name}", "-W", "conf/unit.h", f"{name}/molt"], check=True,
                          capture_output=True, text=True).stdout
    assert "services/listen.c" in said, said
