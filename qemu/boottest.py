# SPDX-License-Identifier: MIT
"""One boot in QEMU, as a test: boot, check, upgrade, roll nothing back, power off.

    python3 -m qemu.boottest --build build

or from pytest: `boot_upgrade_poweroff(build, log)` raises AssertionError. Both images are made of
one Debian root, told apart by their os-release: what is tested is a real kernel with molt as its
PID 1, and that needs no second Debian. `make demo` has it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qemu import child, images, scenario
from qemu.deps import MissingPackages
from qemu.guest import Guest
from qemu.lab import Room, marked
from qemu.machine import Machine, MachineError
from qemu.packages import PackageError
from qemu.progress import say, step
from qemu.report import report
from qemu.upgrade import snapshot
from qemu.verdict import Facts, problems

SUITE = "bookworm"
SECOND_VERSION = "12.molted"


def boot_upgrade_poweroff(build: Path, log: Path) -> None:
    """Raises AssertionError with everything that was not as it must be."""
    facts = Facts()
    try:
        run(build, log, facts)
    except (MachineError, TimeoutError) as error:
        facts.error = str(error)
    page = report(facts, "molt: one boot in QEMU")
    (log / "report.txt").write_text(page + "\n")
    assert not problems(facts), page


def run(build: Path, log: Path, facts: Facts) -> None:
    """The scenario; leaves what it saw in facts."""
    with Room(build, log) as room:
        with step("gathering tools, a root and the kernel (cached after the first time)"):
            room.gather([SUITE])
        with step("composing the two images"):
            first = room.image("first", SUITE)
            second = room.image("second", SUITE, [marked(room.directory, SECOND_VERSION)])
        with room.machine(first, second) as vm:
            _scenario(vm, facts)
        disks = {"/var": first.var, "/home": first.home}
        facts.unclean = {n: why for n, path in disks.items() if (why := images.unclean(path))}


def _scenario(vm: Machine, facts: Facts) -> None:
    guest = scenario.boot(vm, facts, SUITE)
    _check_boot(guest)
    facts.before = snapshot(guest)
    load = scenario.begin_load(vm, clients=1)
    try:
        scenario.swap(guest, facts)
    finally:
        scenario.end_load(load, guest, facts)
    facts.after = snapshot(guest)
    _check_upgraded(guest)
    scenario.power_off(vm, guest, facts)


def _check_boot(guest: Guest) -> None:
    """What a boot has to leave behind, beyond running services."""
    guest.check("awk '$2 == \"/\" { root = $4 } END { exit root !~ /^ro/ }' /proc/mounts")
    guest.check("mountpoint -q /var && mountpoint -q /home && mountpoint -q /tmp")
    guest.check('test "$(readlink /proc/1/exe)" = /usr/sbin/molt')
    guest.check('test "$(hostname)" = molt')


def _check_upgraded(guest: Guest) -> None:
    """What an upgrade has to leave behind, beyond what qemu/verdict.py looks at."""
    guest.check(f"grep -q '\"{SECOND_VERSION}\"' /etc/os-release")
    guest.check("mountpoint -q /var && mountpoint -q /home && mountpoint -q /tmp")
    guest.check("test -w /var && ! test -w /etc")
    # A process born now lives in the new image like any other.
    guest.check("test / -ef /proc/1/root && test /etc/os-release -ef /proc/1/root/etc/os-release")


def main() -> int:
    parser = argparse.ArgumentParser(prog="qemu.boottest", description="One boot in QEMU.")
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--log", type=Path, default=None)
    options = parser.parse_args()
    child.exit_on_signals()
    log = options.log or options.build / "boottest"
    try:
        boot_upgrade_poweroff(options.build, log)
    except AssertionError as error:
        print(error)
        return 1
    except (MissingPackages, PackageError, RuntimeError) as error:
        sys.exit(f"boottest: {error}")
    print((log / "report.txt").read_text(), end="")
    say(f"records of this run: {log}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
