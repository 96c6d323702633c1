# SPDX-License-Identifier: MIT
"""Two cells of the matrix: a power cut while an upgrade is committed, on a newer kernel than the other boots have; and a kernel
that is too old to be upgraded on, which is told. `make matrix` has the others. And a person in front of one."""
import os
import pty
import select
import subprocess
import sys
import time
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


class Person:
    """In front of a terminal."""

    def __init__(self, terminal):
        self.terminal, self.seen = terminal, ""

    def reads(self, text, timeout=300):
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.terminal], [], [], left)[0], f"no {text!r} in:\n{self.seen}"
            self.seen += os.read(self.terminal, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def types(self, keys):
        os.write(self.terminal, keys.encode())


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_shell():
    near, far = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "qemu.matrix", "--build", str(BUILD), "--out", str(BUILD / "qemu-shell"), "--shell",
                           CELLS[0]], cwd=TOP, stdin=far, stdout=far, stderr=far) as run:
        os.close(far)
        try:
            person = Person(near)
            person.reads("Ctrl-] pulls the plug")
            person.reads("# ")
            person.types("initctl version; echo th''ere\r")
            person.reads("molt 0.1.0 as PID 1, generation 1")
            person.reads("there")
            person.types("\x1d")
            assert run.wait(60) == 0, person.seen
        finally:
            run.kill()
            os.close(near)
