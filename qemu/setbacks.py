# SPDX-License-Identifier: MIT
"""Upgrades that must not succeed, then one that must, and all the time nobody's request fails.

The bad images are overlays of the second one, spoilt inside the guest: no init, no place for a
mount, an nginx that does not start.
"""

from __future__ import annotations

import json
from typing import Any

from qemu import scenario
from qemu.guest import Guest
from qemu.machine import Machine
from qemu.upgrade import Upgrade, document, units, upgrade
from qemu.verdict import KEPT, RENEWED

REFUSED, ROLLED_BACK = 3, 4
UPGRADE_TIMEOUT = 240.0

PREPARE = """modprobe overlay && mkdir -p /run/base /run/spoilt
mountpoint -q /run/base || mount -o ro /dev/nvme0n2 /run/base && mount -t tmpfs spoilt /run/spoilt"""
# An overlay of the second image on /new, spoilt and, unless that says otherwise, made read-only.
SPOIL = """set -e
cd /run/spoilt
mkdir upper work
mount -t overlay -o lowerdir=/run/base,upperdir=upper,workdir=work image /new
{spoil}
test -e /run/spoilt/upper/writable || mount -o remount,ro /new
"""
CLEAR = "umount /new && rm -r /run/spoilt/upper /run/spoilt/work"

NO_INIT = "rm /new/usr/sbin/init"
NO_HOME = "rmdir /new/home"
# It ends at once; and it is not given much time, for nothing tells a starter from a failure.
NO_NGINX = """printf '#!/bin/sh\\nexit 1\\n' > /new/usr/sbin/nginx
printf '[Upgrade]\\nReadyTimeoutSec=5\\n' > /new/etc/molt/system/nginx.service.d/soon.conf"""


def setbacks(vm: Machine, guest: Guest) -> None:
    """Begins with nothing on /new, and ends so; raises AssertionError."""
    guest.check(PREPARE)
    load = scenario.begin_load(vm, clients=1, pause=0.1)
    try:
        _refused(guest, NO_INIT, "init")
        _refused(guest, NO_HOME, "/home")
        rolled_back(guest, NO_NGINX, "nginx.service")
        _committed(guest)
    finally:
        stats = load.stop()
    assert not stats.problems, "\n".join(stats.problems)
    assert [s.still_open for s in stats.streams] == [s.clients for s in stats.streams]


def attempt(guest: Guest, spoil: str) -> Upgrade:
    """An upgrade that must leave everything as it was."""
    before = _look(guest)
    guest.check(SPOIL.format(spoil=spoil))
    done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
    guest.check(CLEAR)
    assert _look(guest) == before, f"{done}: not as before"
    return done


def _refused(guest: Guest, spoil: str, word: str) -> None:
    done = attempt(guest, spoil)
    assert done.code == REFUSED and done.text.startswith("refused: "), done
    assert word in done.text, done.text
    assert not done.of_kind("blackout"), "a refusal came after the freeze"


def rolled_back(guest: Guest, spoil: str, word: str) -> None:
    done = attempt(guest, spoil)
    assert done.code == ROLLED_BACK and done.text.startswith("rolled back: "), done
    assert word in done.text, done.text
    holders = document(guest, "initctl holders --json")["holders"]
    assert not holders, f"the image that was left again is still held: {holders}"


def _committed(guest: Guest) -> None:
    before = _look(guest)
    guest.check("mount -o ro /dev/nvme0n2 /new")
    done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
    assert (done.code, done.text) == (0, "committed"), done
    after = _look(guest)
    assert after["release"] != before["release"]
    for name in RENEWED:
        assert after["programs"][name] == after["generation"], after


def _look(guest: Guest) -> dict[str, Any]:
    """What an upgrade changes, and one that was undone does not. Every service has to run."""
    release, _, status = guest.check(". /etc/os-release; echo $PRETTY_NAME; "
                                     "exec initctl status --json").partition("\n")
    system = json.loads(status)
    now = units(system)
    states = {name: now[name]["state"] for name in (*RENEWED, *KEPT)}
    assert set(states.values()) == {"running"}, states
    return {"release": release, "generation": system["system"]["generation"],
            "programs": {name: unit.get("exe_generation") for name, unit in now.items()}}
