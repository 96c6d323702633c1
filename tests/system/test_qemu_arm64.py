# SPDX-License-Identifier: MIT
"""arm64, cross-built and run in QEMU's translator: the unit tests, first of all those of injection, and molt as PID 1 through an
upgrade, a rollback and an upgrade back.

These may run beside other tests: nothing in them measures time.
"""
import os
import pathlib

import pytest

from machine import BUILD
from qemu import arm64, unit
from qemu.board import ARM64_EVERYTHING

BUILD_ARM64 = pathlib.Path(os.environ.get("MOLT_BUILD_ARM64", BUILD / "arm64")).resolve()
pytestmark = pytest.mark.timeout(1200)

# What a kernel or a processor lacks. Each is in the other list's run, or nowhere in Debian's kernels of today.
NO_DISPATCH = "test_inject:test_syscall_user_dispatch"  # a tracer's part of it is for x86 only, as yet
NO_SME = "test_inject_registers:test_streaming_mode_survives"  # switched off in stable kernels
NO_SVE = "test_inject_registers:test_sve_survives"
NO_BTI = "test_inject_registers:test_stopped_at_indirect_branch"


def build():
    if not (BUILD_ARM64 / "molt").exists() or not (BUILD_ARM64 / "unit").is_dir():
        pytest.fail(f"nothing is built in {BUILD_ARM64}: make arm64")
    return BUILD_ARM64


def test_unit_tests():
    out = unit.run(build(), BUILD_ARM64 / "qemu-unit")
    assert not out.problems, "\n".join(out.problems)
    assert set(out.skipped) == {NO_DISPATCH, NO_SME, NO_SVE, NO_BTI}
    assert len(out.passed) >= 150 and out.programs >= 15


def test_registers_of_a_processor_with_everything():
    """SVE, guarded pages: what the plain processor of the other tests has not."""
    out = unit.run(build(), BUILD_ARM64 / "qemu-everything", tests=["test_inject_arch", "test_inject_registers"],
                   cpu=ARM64_EVERYTHING)
    assert not out.problems, "\n".join(out.problems)
    assert set(out.skipped) == {NO_SME}


def test_upgrade_and_rollback():
    arm64.run(build(), BUILD_ARM64 / "qemu-boot")


GOOD = """BEGIN test_a\r
[==========] Running 2 test(s).\r
[ RUN      ] test_one\r
[       OK ] test_one\r
[ RUN      ] test_two\r
[  SKIPPED ] test_two\r
[==========] 2 test(s) run.\r
END test_a 0 12\r
ALL DONE\r
"""


def test_the_console_is_read_right():
    """That what goes wrong in a guest is seen here."""
    out = unit.parse(GOOD, ["test_a"])
    assert (out.passed, out.skipped, out.problems) == (["test_a:test_one"], ["test_a:test_two"], [])
    assert unit.parse(GOOD, ["test_a", "test_b"]).problems == ["test_b: did not end"]
    assert unit.parse(GOOD.replace("OK ] test_one", "FAILED  ] test_one").replace("[       FAILED", "[  FAILED"),
                      ["test_a"]).problems == ["test_a:test_one failed"]
    assert unit.parse(GOOD.replace("test_a 0", "test_a 139"), ["test_a"]).problems == ["test_a: exit 139"]
    assert unit.parse(GOOD.replace("[       OK ] test_one\r\n", ""), ["test_a"]).problems == \
        ["test_a: some of its tests did not report"]
