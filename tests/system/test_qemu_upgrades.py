# SPDX-License-Identifier: MIT
"""One boot of a real kernel under load: inits that fail as PID 1, upgrades that are refused and
rolled back, then twenty that are not."""
import pathlib

import pytest

from machine import BUILD
from qemu.bad_inits import bad_inits
from qemu.boottest import SECOND_VERSION, SUITE
from qemu.lab import Room, marked
from qemu.marathon import marathon
from qemu.namespaces import namespaces
from qemu.scenario import wait_services
from qemu.setbacks import setbacks


@pytest.fixture(scope="module")
def system():
    """A booted machine and its guest, nothing on /new."""
    with Room(BUILD, pathlib.Path(BUILD) / "qemu-upgrades") as room:
        room.gather([SUITE])
        first = room.image("first", SUITE)
        second = room.image("second", SUITE, [marked(room.directory, SECOND_VERSION)])
        with room.machine(first, second) as vm:
            yield vm, wait_services(vm)


@pytest.mark.alone
def test_bad_inits(system):
    bad_inits(*system)


@pytest.mark.alone
def test_setbacks(system):
    setbacks(*system)


@pytest.mark.alone
def test_mount_namespaces(system):
    namespaces(*system)


@pytest.mark.alone
def test_twenty_upgrades(system):
    marathon(*system)
