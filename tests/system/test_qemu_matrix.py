# SPDX-License-Identifier: MIT
"""Two cells of the matrix: a power cut while an upgrade is committed, on a newer kernel than the other boots have; and a kernel
that is too old to be upgraded on, which is told. `make matrix` has the others."""
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest

from machine import BUILD, TOP

CELLS = ("x86_64/6.12/ext4/cut-commit", "x86_64/5.10/ext4/upgrade")


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_cells():
    out = BUILD / "qemu-matrix"
    run = subprocess.run([sys.executable, "-m", "qemu.matrix", "--build", str(BUILD), "--out", str(out), *CELLS],
                         cwd=TOP, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr[-3000:]}"
    cases = xml.parse(out / "junit.xml").getroot()
    # Neither skipped, for what is not there, nor left out.
    assert [case for case in cases if len(case)] == [] and len(cases) == len(CELLS), run.stdout
    assert not (out / "bases").exists() and not (out / "work").exists()
