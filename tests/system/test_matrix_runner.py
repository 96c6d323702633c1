# SPDX-License-Identifier: MIT
"""The runner of the matrix, without QEMU: which cells are chosen, what is shown, and that a cell that fails is seen to fail."""
import sys
import time
import xml.etree.ElementTree as xml

import pytest

from qemu.matrix import base, cells, live, materials, modules, outcome, scenarios, system
from qemu.matrix.cells import Cell
from qemu.matrix.outcome import Outcome, State
from qemu.matrix.runner import Queue, Runner

GOOD, BAD, HUNG, LACKING = (Cell("x86_64", "6.1", root, "upgrade") for root in ("ext4", "erofs", "btrfs", "tmpfs"))
LATER = Cell("x86_64", "6.1", "nvme", "kexec")


@pytest.fixture(autouse=True)
def something_is_not_there_yet(monkeypatch):
    monkeypatch.setitem(cells.NOT_YET, "kexec", "molt does not boot another kernel yet")


PROGRAMS = {GOOD: "print('well')",
            BAD: "import sys; open(sys.argv[1] + '/console-1.log', 'w').write('Kernel <panic>\\n'); open(sys.argv[1] + '/why', 'w').write('the \\x1b[1mlobster\\x1b[0m <died>\\nof old age'); sys.exit(1)",
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
    assert {c.root for c in everything} == set(cells.ROOTS) == {*system.KINDS, cells.STOCK}
    assert {c.scenario for c in everything} == set(cells.SCENARIOS)
    for cell in everything:
        assert cell.not_yet or cell.scenario in scenarios.PLAYS, f"nobody plays {cell.name}"
        assert cells.parse(cell.name) == cell
    # What is only called for on one kernel is not forgotten on the others.
    assert Cell("arm64", "6.12", "erofs", "upgrade") in everything
    assert Cell("x86_64", "6.12", "initramfs", "rollback") not in everything
    assert [c.name for c in everything if c.root == cells.STOCK] == ["x86_64/6.12/stock/boot", "x86_64/6.12/stock/upgrade"]


def test_cells_are_chosen():
    names = [c.name for c in cells.select(["arm64/6.1*/erofs/upgrade"])]
    assert names == ["arm64/6.1/erofs/upgrade", "arm64/6.12/erofs/upgrade", "arm64/6.18/erofs/upgrade"]
    assert len(cells.select([])) == len(cells.all_cells())
    assert cells.select(["x86_64/6.12/erofs/hundred"]) == [Cell("x86_64", "6.12", "erofs", "hundred")]
    with pytest.raises(ValueError, match="Near it: .*arm64/6.12/erofs/upgrade"):
        cells.select(["arm64/6.12/erofs/upgrad"])
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
    assert "Kernel <panic>" in failed[0].find("system-out").text
    outcome.write_html(outcomes, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "&lt;died&gt;" in page and "Kernel &lt;panic&gt;" in page and f'href="cells/{BAD.name}/"' in page


def test_groups_begin_with_one_alone():
    """The first of a group makes what the others need; who waits for that lets others go first."""
    a, b, c, d = (Cell("x86_64", "6.1", root, scenario) for root in ("ext4", "erofs") for scenario in ("boot", "upgrade"))
    queue = Queue([a, b, c, d], base.name)
    assert [queue.take(), queue.take(), queue.take()] == [a, c, None]
    assert not queue.ended(a)
    assert [queue.take(), queue.take()] == [b, None]
    assert queue.ended(b) and not queue.empty and not queue.ended(c)
    assert queue.take() == d and queue.empty and queue.ended(d)


def test_the_last_of_a_group_is_told(tmp_path):
    ended = []
    Runner(lambda cell, log: [sys.executable, "-c", ""], tmp_path, 2, lambda cell: 30.0, group=lambda cell: cell.root[0],
           group_ended=ended.append).run([GOOD, BAD, LACKING])
    assert sorted(ended) == ["e", "t"]


def test_an_interrupted_run_ends_its_cells_and_keeps_what_it_has(tmp_path):
    """As Ctrl-C does: the exception comes while the first cell is being told of."""
    done = []

    def tell(what, cell, ended):
        if ended:
            done.append(ended)
            raise KeyboardInterrupt
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Runner(lambda cell, log: [sys.executable, "-c", PROGRAMS[cell], str(log)], tmp_path, 2, lambda cell: 100.0, tell).run(
            [HUNG, GOOD, BAD])
    assert time.monotonic() - begin < 20 and [o.cell for o in done] == [GOOD]


def test_what_was_good_is_taken_over(tmp_path):
    outcomes, _ = run(tmp_path, [GOOD, BAD, LACKING, LATER])
    outcome.save(outcomes, tmp_path / "outcomes.json", lambda cell: "this build")
    assert [o.cell for o in outcome.load(tmp_path / "outcomes.json", lambda cell: "this build")] == [GOOD]
    assert not outcome.load(tmp_path / "outcomes.json", lambda cell: "another build")
    assert not outcome.load(tmp_path / "none", lambda cell: "this build")


def test_the_table_fits_into_the_terminal():
    chosen = [c for c in cells.all_cells() if c.architecture == "x86_64"]
    failed = next(c for c in chosen if c.root == "verity" and c.scenario == "rollback")
    done = {c: Outcome(c, State.PASSED) for c in chosen if c.scenario == "upgrade"} | {failed: Outcome(failed, State.FAILED)}
    for height in (24, 100):
        lines = live.draw(chosen, done, [chosen[0]], 80, height)
        assert len(lines) <= height and all(len(line) < 80 for line in lines)
        text = "\n".join(lines)
        assert "rollback verity" in text and "FAIL" in text and live.RUNS in text
        assert ("more rows" in text) == (height == 24)


def test_what_could_not_be_had_is_told_to_the_cell(tmp_path):
    found = materials.Materials(missing={"x86_64/6.18": "no kernel", "arm64": "no compiler"})
    found.save(tmp_path / "materials.json")
    found = materials.load(tmp_path / "materials.json")
    assert found.why_not(Cell("x86_64", "6.18", "ext4", "boot")) == "no kernel"
    assert found.why_not(Cell("arm64", "6.1", "ext4", "boot")) == "no compiler"
    assert found.why_not(Cell("x86_64", "6.1", "ext4", "boot")) == ""
    # An outcome is good for as long as kernel and system are the same.
    found.kernels = {"x86_64/6.1": {"image": "/cache/linux-6.1.0-9/vmlinuz"}, "x86_64/6.12": {"image": "/cache/linux-6.12/vmlinuz"}}
    found.keys = {"x86_64": "one system"}
    key = found.key(GOOD)
    assert key != found.key(Cell("x86_64", "6.12", "ext4", "upgrade"))
    found.keys = {"x86_64": "another"}
    assert found.key(GOOD) != key


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
    assert modules.there(tmp_path, ["dm_verity", "built-in"]) == ["dm_verity"]
    found = modules.closure(tmp_path, ["dm_verity", "built-in"])
    assert [m.name for m in found] == ["dm_mod.ko", "dm-bufio.ko", "dm-verity.ko.xz"]
