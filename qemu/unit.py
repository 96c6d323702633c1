# SPDX-License-Identifier: MIT
"""The unit tests of another architecture, in a machine of its own: an initramfs that runs each and
says how it ended. What it says is parsed; a test that fails, or does not end, is a failure here.

    python3 -m qemu.unit --build build/arm64 [--cpu max,pauth-impdef=on] [--suite trixie] [TEST...]
"""

from __future__ import annotations

import argparse
import lzma
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from qemu import child, deps, foreign, kernel, ramdisk
from qemu.board import BOARDS
from qemu.lab import CACHE, REPOSITORY
from qemu.machine import Config, Machine, MachineError
from qemu.packages import Suite
from qemu.progress import say, step

# Seconds for one program in a machine that is emulated on a busy one, and for all of them.
PROGRAM_TIMEOUT = 300
TIMEOUT = 900.0
SLOWNESS = 12  # see tests/unit/inject_child.h

# Left out: what wants a bash of that architecture, in a guest that has busybox.
LEFT_OUT = ("test_guard",)
MODULES = ("unix_diag",)

INIT = """#!/bin/sh
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=1777 tmpfs /tmp
ln -s /proc/self/fd /dev/fd
ip link set lo up
for module in /modules/*; do insmod $module; done
export MOLT_TEST_SLOWNESS={slowness}
grep -m1 Features /proc/cpuinfo
cd /
for test in /unit/*; do
	echo "BEGIN ${{test##*/}}"
	timeout {timeout} $test
	echo "END ${{test##*/}} $? $(cut -d. -f1 /proc/uptime)"
done
echo ALL DONE
poweroff -f
"""


@dataclass
class Outcome:
    """What the guest said of all programs."""

    passed: list[str] = field(default_factory=list)  # PROGRAM:TEST
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    programs: int = 0


def parse(text: str, programs: list[str]) -> Outcome:
    """A pure function of what the console showed. Whatever is not said to be well counts as bad."""
    out = Outcome()
    lines = text.replace("\r", "")
    for name in programs:
        said = re.search(rf"^BEGIN {re.escape(name)}$(.*)^END {re.escape(name)} (\d+) \d+$", lines,
                         re.MULTILINE | re.DOTALL)
        if not said:
            out.problems.append(f"{name}: did not end")
            continue
        body, code = said.groups()
        out.programs += 1
        ok = re.findall(r"^\[       OK \] (\S+)", body, re.MULTILINE)
        skipped = set(re.findall(r"\[  SKIPPED \] ([a-z]\S+)", body))
        failed = set(re.findall(r"\[  FAILED  \] ([a-z]\S+)", body))
        planned = re.search(r"Running (\d+) test", body)
        out.passed += [f"{name}:{test}" for test in ok]
        out.skipped += [f"{name}:{test}" for test in sorted(skipped)]
        out.problems += [f"{name}:{test} failed" for test in sorted(failed)]
        if code != "0" and not failed:
            out.problems.append(f"{name}: exit {code}")
        elif not planned or int(planned.group(1)) != len(ok) + len(skipped) + len(failed):
            out.problems.append(f"{name}: some of its tests did not report")
    return out


def run(build: Path, log: Path, architecture: str = "arm64", tests: list[str] | None = None,
        cpu: str = "", suite_name: str = "bookworm") -> Outcome:
    """Runs the programs of build/unit (all, if none are named)."""
    names = sorted(tests or [p.name for p in (build / "unit").glob("test_*")
                             if not p.suffix and p.name not in LEFT_OUT])
    if not names:
        raise RuntimeError(f"no unit tests in {build}: make ARCH={architecture} unit-build")
    deps.ensure(architecture)
    log.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="molt-unit-") as work:
        suite = Suite(suite_name, CACHE / "apt" / f"{suite_name}-{architecture}", architecture)
        suite.refresh()
        linux = kernel.get(suite, CACHE / architecture)
        initrd = Path(work, "initrd")
        root = _root(Path(work, "root"), build, architecture, names,
                     foreign.busybox(suite, CACHE))
        _add_modules(root, linux)
        ramdisk.pack(root, initrd)
        config = Config(linux.image, [], append="rdinit=/init quiet", initrd=initrd,
                        architecture=architecture, cpu=cpu)
        with Machine(config, log / "console.log") as vm:
            return _watch(vm, names)


def _root(root: Path, build: Path, architecture: str, names: list[str], box: Path) -> Path:
    foreign.lay_out(root, architecture, box)
    (root / "unit").mkdir()
    (root / "conf").mkdir()
    shutil.copy2(REPOSITORY / "conf/init.conf", root / "conf")  # one test reads what is shipped
    programs = []
    for name in names:
        place = root / "unit" / name
        child.check([f"{BOARDS[architecture].triplet}-strip", "--strip-debug", "-o", str(place),
                     str(build / "unit" / name)])
        programs.append(place)
    foreign.add_libraries(root, architecture, programs)
    (root / "bin/poweroff").symlink_to("busybox")
    shutil.rmtree(root / "new")
    init = root / "init"
    init.write_text(INIT.format(slowness=SLOWNESS, timeout=PROGRAM_TIMEOUT))
    init.chmod(0o755)
    return root


def _add_modules(root: Path, linux: kernel.Kernel) -> None:
    """Those that are not built in, decompressed: busybox knows no xz."""
    (root / "modules").mkdir()
    for name in MODULES:
        for file in linux.layer.rglob(f"{name}.ko*"):
            data = file.read_bytes()
            place = root / "modules" / f"{name}.ko"
            place.write_bytes(lzma.decompress(data) if file.suffix == ".xz" else data)


def _watch(vm: Machine, names: list[str]) -> Outcome:
    ended = ""
    try:
        vm.console.expect("ALL DONE", TIMEOUT)
        vm.wait_off(60.0)
    except MachineError as error:
        ended = str(error)
    out = parse(vm.console.text(), names)
    if ended:
        out.problems.append(ended)
    return out


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=Path("build/arm64"))
    parser.add_argument("--cpu", default="")
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()
    child.exit_on_signals()
    with step("unit tests in the guest"):
        out = run(arguments.build, arguments.build / "qemu-unit", tests=arguments.tests,
                  cpu=arguments.cpu, suite_name=arguments.suite)
    for problem in out.problems:
        say(problem)
    for name in out.skipped:
        say(f"skipped: {name}")
    say(f"{out.programs} programs, {len(out.passed)} tests passed, {len(out.skipped)} skipped, "
        f"{len(out.problems)} problems")
    return 1 if out.problems else 0


if __name__ == "__main__":
    sys.exit(main())
