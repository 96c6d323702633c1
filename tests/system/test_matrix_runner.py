# SPDX-License-Identifier: MIT
"""The runner of the matrix, without QEMU: which cells are chosen, what is shown, and that a cell that fails is seen to fail."""
import sys
import xml.etree.ElementTree as xml

import pytest

from qemu.matrix import cells, materials, modules, outcome, scenarios, system
from qemu.matrix.cells import Cell
from qemu.matrix.outcome import Outcome, State
from qemu.matrix.runner import Runner

GOOD, BAD, HUNG, LACKING = (Cell("x86_64", "6.1", root, "upgrade") for root in ("ext4", "erofs", "btrfs", "tmpfs"))
LATER = Cell("x86_64", "6.1", "nvme", "kexec")
PROGRAMS = {GOOD: "print('well')",
            BAD: "import sys; open(sys.argv[1] + '/why', 'w').write('the \\x1b[1mlobster\\x1b[0m <died>\\nof old age'); sys.exit(1)",
            HUNG: "import time; time.sleep(1000)",
            LACKING: "import sys; open(sys.argv[1] + '/why', 'w').write('no kernel'); sys.exit(77)"}


def run(tmp_path, chosen, timeout=30.0):
    told = []
    runner = Runner(lambda cell, log: [sys.executable, "-c", PROGRAMS[cell], str(log)], tmp_path, 2,
                    lambda cell: 0.2 if cell == HUNG else timeout, lambda what, cell, o: told.append((what, cell)))
    return runner.run(chosen), told


def test_cells_are_sensible():
    everything = cells.all_cells()
    assert len(set(everything)) == len(everything)
    assert {c.architecture for c in everything} == set(cells.ARCHITECTURES)
    assert {c.kernel for c in everything} == set(cells.KERNELS)
    assert {c.root for c in everything} == set(cells.ROOTS) == set(system.KINDS)
    assert {c.scenario for c in everything} == set(cells.SCENARIOS)
    for cell in everything:
        assert cell.not_yet or cell.scenario in scenarios.PLAYS, f"nobody plays {cell.name}"
        assert cells.parse(cell.name) == cell
    # What is only called for on one kernel is not forgotten on the others.
    assert Cell("arm64", "6.12", "erofs", "upgrade") in everything
    assert Cell("x86_64", "6.12", "initramfs", "rollback") not in everything


def test_cells_are_chosen():
    names = [c.name for c in cells.select(["arm64/6.1*/erofs/upgrade"])]
    assert names == ["arm64/6.1/erofs/upgrade", "arm64/6.12/erofs/upgrade", "arm64/6.18/erofs/upgrade"]
    assert len(cells.select([])) == len(cells.all_cells())
    assert cells.select(["x86_64/6.12/erofs/hundred"]) == [Cell("x86_64", "6.12", "erofs", "hundred")]
    for wrong in ("x86_64/6.12/erofs", "mips/6.1/ext4/boot", "x86_64/6.*/ext4/fly"):
        with pytest.raises(ValueError, match="ARCHITECTURE/KERNEL/ROOT/SCENARIO|no architecture mips"):
            cells.select([wrong])


def test_every_end_is_told(tmp_path):
    chosen = [GOOD, BAD, HUNG, LACKING, LATER]
    outcomes, told = run(tmp_path, chosen)
    assert [o.cell for o in outcomes] == chosen
    assert [o.state for o in outcomes] == [State.PASSED, State.FAILED, State.FAILED, State.SKIPPED, State.NOT_YET]
    assert "killed" in outcomes[2].why and outcomes[2].seconds < 20
    assert ("begin", BAD) in told and ("end", BAD) in told and ("begin", LATER) not in told
    assert (tmp_path / "cells" / GOOD.name / "log").read_text() == "well\n"
    assert outcome.exit_code(outcomes) == 1
    assert outcome.exit_code([o for o in outcomes if o.state is not State.FAILED]) == 0


def test_the_table(tmp_path):
    outcomes, _ = run(tmp_path, [GOOD, BAD, LACKING, LATER])
    shown = outcome.table(outcomes)
    assert "upgrade erofs           FAILED 0s" in shown and "upgrade ext4            ok 0s" in shown
    assert "lobster" in shown and str(tmp_path) in shown
    assert "skipped: no kernel: x86_64/6.1/tmpfs/upgrade" in shown
    assert "not yet: molt does not boot another kernel yet" in shown
    assert shown.endswith("4 cells: 1 ok, 1 FAILED, 1 not yet, 1 skipped")


def test_the_files_are_well_formed(tmp_path):
    outcomes, _ = run(tmp_path, [GOOD, BAD, LACKING, LATER])
    outcome.write_junit(outcomes, tmp_path / "junit.xml")
    suite = xml.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    failed = [case for case in suite if case.find("failure") is not None]
    assert [(case.get("classname"), case.get("name")) for case in failed] == [("x86_64.6.1.erofs", "upgrade")]
    assert "<died>\nof old age" in failed[0].find("failure").text
    outcome.write_html(outcomes, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "&lt;died&gt;" in page and f'href="cells/{BAD.name}/"' in page


def test_what_could_not_be_had_is_told_to_the_cell(tmp_path):
    found = materials.Materials(missing={"x86_64/6.18": "no kernel", "arm64": "no compiler"})
    found.save(tmp_path / "materials.json")
    found = materials.load(tmp_path / "materials.json")
    assert found.why_not(Cell("x86_64", "6.18", "ext4", "boot")) == "no kernel"
    assert found.why_not(Cell("arm64", "6.1", "ext4", "boot")) == "no compiler"
    assert found.why_not(Cell("x86_64", "6.1", "ext4", "boot")) == ""


def test_kernels_by_their_packages():
    names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-50-cloud-amd64", "linux-image-6.12.1-cloud-amd64",
             "linux-image-6.1.0-51-amd64", "linux-image-6.1.0-52-cloud-amd64-dbg", "linux-image-cloud-amd64"]
    found = materials.packages_of("6.1", "amd64", names)
    assert max(found, key=materials.release_key) == names[1]
    newest = materials.packages_of("newest", "amd64", names)
    assert max(newest, key=materials.release_key) == names[2]


def test_modules_come_after_what_they_need(tmp_path):
    (tmp_path / "modules.dep").write_text("a/dm-verity.ko.xz: b/dm-bufio.ko b/dm_mod.ko\nb/dm-bufio.ko: b/dm_mod.ko\n"
                                          "b/dm_mod.ko:\nb/other.ko:\n")
    found = modules.closure(tmp_path, ["dm_verity", "built-in"])
    assert [m.name for m in found] == ["dm_mod.ko", "dm-bufio.ko", "dm-verity.ko.xz"]
