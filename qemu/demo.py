# SPDX-License-Identifier: MIT
"""The demo: a Debian 12 becomes a Debian 13 under load, in one machine that never stops.

    python3 -m qemu.demo --build build

Boots a Debian 12 image with molt as its init, drives HTTP at nginx (policy reexec) and at a
socket-activated server (policy handover), holds connections open to a third that is left alone
(policy keep), swaps the image, and reports. Exit 0 only if nothing failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from qemu import child, images, scenario
from qemu.deps import MissingPackages
from qemu.lab import Room
from qemu.machine import Machine, MachineError
from qemu.packages import PackageError
from qemu.progress import say, step
from qemu.report import report
from qemu.upgrade import snapshot
from qemu.verdict import Facts, problems

FIRST, SECOND = "bookworm", "trixie"


def run(options: argparse.Namespace, facts: Facts) -> None:
    """The whole story; leaves what it saw in facts, also when it ends early."""
    with Room(options.build, options.log) as room:
        with step("gathering tools, roots and the kernel (cached after the first time)"):
            room.gather([FIRST, SECOND])
        with step("composing the two images"):
            first, second = room.image("first", FIRST), room.image("second", SECOND)
        written = {name: (image.root, images.digest(image.root))
                   for name, image in (("the first image", first), ("the second image", second))}
        with room.machine(first, second) as vm:
            _act(vm, options, facts)
        facts.images_changed = [name for name, (path, was) in written.items()
                                if images.digest(path) != was]
        disks = {"/var": first.var, "/home": first.home}
        facts.unclean = {n: why for n, path in disks.items() if (why := images.unclean(path))}


def _act(vm: Machine, options: argparse.Namespace, facts: Facts) -> None:
    guest = scenario.boot(vm, facts, FIRST)
    facts.before = snapshot(guest)
    load = scenario.begin_load(vm)
    try:
        with step(f"{options.seconds:.0f} s of load before the upgrade"):
            time.sleep(options.seconds)
        scenario.swap(guest, facts)
        with step(f"{options.seconds:.0f} s of load after the upgrade"):
            time.sleep(options.seconds)
    finally:
        scenario.end_load(load, guest, facts)
    facts.after = snapshot(guest)
    scenario.power_off(vm, guest, facts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qemu.demo", description="Debian 12 to 13 under load.")
    parser.add_argument("--build", type=Path, default=Path("build"),
                        help="where molt, initctl and tools/ were built (default: build)")
    parser.add_argument("--log", type=Path, default=None,
                        help="a directory for what was seen (default: BUILD/demo)")
    parser.add_argument("--seconds", type=float, default=8.0,
                        help="of load before and after the upgrade (default: 8)")
    options = parser.parse_args()
    options.log = options.log or options.build / "demo"
    return options


def _keep_records(options: argparse.Namespace, facts: Facts, page: str) -> None:
    options.log.mkdir(parents=True, exist_ok=True)
    (options.log / "report.txt").write_text(page + "\n")
    if facts.load:
        (options.log / "load.json").write_text(json.dumps(facts.load.as_dict(), indent=2) + "\n")
    if facts.upgrade:
        lines = [json.dumps(e) for e in facts.upgrade.events] + facts.upgrade.other
        (options.log / "upgrade.jsonl").write_text("\n".join(lines) + "\n")


def main() -> int:
    options = _arguments()
    child.exit_on_signals()
    facts = Facts()
    try:
        run(options, facts)
    except (MissingPackages, PackageError) as error:
        sys.exit(f"demo: {error}")
    except (MachineError, TimeoutError, RuntimeError) as error:
        facts.error = str(error)
    page = report(facts, "molt: Debian 12 becomes Debian 13 under load")
    _keep_records(options, facts, page)
    print(page)
    say(f"records of this run: {options.log}/")
    return 1 if problems(facts) else 0


if __name__ == "__main__":
    sys.exit(main())
