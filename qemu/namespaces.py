# SPDX-License-Identifier: MIT
"""Mount namespaces on a real kernel: older than the one that the other tests run on, it cannot copy a detached mount."""

from __future__ import annotations

from qemu.guest import Guest
from qemu.machine import Machine
from qemu.marathon import DISKS, UPGRADE_TIMEOUT
from qemu.upgrade import upgrade

PROPAGATIONS = ("slave", "shared", "private")
START = """mount --make-rshared /
for p in {}; do
setsid unshare -m --propagation $p sleep 100000 </dev/null >/dev/null 2>&1 & echo $!
until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.05; done
done"""
# What is on "/", and in which groups; of PID 1 first.
ROOTS = """for p in 1 {}; do grep -m1 ' / / ' /proc/$p/mountinfo | sed 's/.* - [^ ]* //; s/ .*//'; done"""
GROUPS = """for p in 1 {}; do grep -m1 ' / / ' /proc/$p/mountinfo | grep -o '[a-z]*:[0-9]* ' | tail -n +2 | tr -d '\\n'; echo; done"""


def namespaces(_vm: Machine, guest: Guest) -> None:
    """Begins with nothing on /new, on either image, and ends so; raises AssertionError."""
    running = DISKS.index(guest.check("findmnt --noheadings --output SOURCE /"))
    pids = guest.check(START.format(" ".join(PROPAGATIONS))).split()[-3:]
    for _ in range(2):
        running = 1 - running
        guest.check(f"mount -o ro {DISKS[running]} /new")
        done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
        assert (done.code, done.text) == (0, "committed"), str(done)
        assert guest.check(ROOTS.format(" ".join(pids))).split() == [DISKS[running]] * 4
        init, slave, shared, private = (line.strip() for line in
                                        (guest.check(GROUPS.format(" ".join(pids))) + "\n\n\n\n").split("\n")[:4])
        assert init == shared and init.startswith("shared:"), (init, shared)
        assert slave == init.replace("shared", "master") and not private, (init, slave, private)
    guest.check(f"kill {' '.join(pids)}")
