# SPDX-License-Identifier: MIT
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

from machine import Machine  # noqa: E402


@pytest.fixture
def machine(tmp_path):
    """A machine with two images that is not started yet: a test lays out its files first."""
    if os.geteuid() != 0:
        pytest.fail("the system tests need root: they make namespaces, mounts and cgroups")
    with Machine(tmp_path) as m:
        yield m
