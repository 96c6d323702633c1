# SPDX-License-Identifier: MIT
"""New inits that say they can take over, and then fail as the PID 1 of a real kernel, which would
panic: each is averted, rolled back with its reason, and nobody's connection breaks."""

from __future__ import annotations

from qemu import scenario
from qemu.guest import Guest
from qemu.lab import LAB
from qemu.machine import Machine
from qemu.setbacks import PREPARE, rolled_back

BAD_INIT = f"cp /{LAB}/badinit /new/usr/sbin/molt && echo yes {{how}} > /new/etc/badinit"
# molt itself, one of whose libraries goes away between the question and the exec.
NO_LIBRARY = f"""cp -a /new/usr/sbin/molt /new/usr/sbin/init.next
cp /{LAB}/badinit /new/usr/sbin/molt && echo swap > /new/etc/badinit
rm /new/usr/lib/*/libinih.so.1* && touch /new/writable"""

FAILURES = {
    "exit": "exited with code 127",
    "leave": "exited with code 3",  # once it is loaded: at a breakpoint of the processor's
    "bare": "was killed by SIGSEGV",  # with no descriptor left
    "smash": "was killed by SIGSEGV",  # with no stack left
    "reboot": "wanted to reboot",
    "hang": "did not take over within 30000 ms",
}


def bad_inits(vm: Machine, guest: Guest) -> None:
    """Begins with nothing on /new, and ends so; raises AssertionError."""
    guest.check(PREPARE)
    load = scenario.begin_load(vm, clients=1, pause=0.1)
    try:
        for how, word in FAILURES.items():
            rolled_back(guest, BAD_INIT.format(how=how), word)
        rolled_back(guest, NO_LIBRARY, "exited with code 127")
    finally:
        stats = load.stop()
    assert not stats.problems, "\n".join(stats.problems)
    assert [s.still_open for s in stats.streams] == [s.clients for s in stats.streams]
    # The guards have gone, and so would PID 1 have without them.
    guest.check("! grep -qx molt-guard /proc/[0-9]*/comm && test $(cat /proc/1/comm) = molt")
