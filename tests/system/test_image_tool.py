# SPDX-License-Identifier: MIT
"""molt-image(8) and its hooks: which image boots, whatever kills who is at it. The boot partition is a directory here, and
a boot loader is played by image_store.py; real ones, FAT and the loss of power are in qemu/sidebyside.py."""
import os
import re
import shutil

import pytest
from image_store import GOOD, HOOK, LOADERS, TOOL, Disk, small_disk

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=LOADERS)
def disk(request, tmp_path):
    disk = Disk(tmp_path, request.param)
    for version in ("1", "2.0", "3"):
        disk.add(version)
    disk.commit("1")
    disk.is_good("1")
    return disk


def test_commit_flips_once(disk):
    """The default is the image of the hook; done twice it is done once; entries that are not ours stay."""
    assert disk.boots() == "1"
    disk.commit("2.0")
    after = disk.text()
    disk.commit("2.0")
    assert disk.text() == after
    assert disk.boots() == "2.0"
    assert disk.tool("list").splitlines() == ["1 previous", "2.0 running default 1-tries", "3"]
    if disk.loader != "molt":
        assert (disk.boot / "molt-2.0/linux").read_text() == "kernel 2.0\n"
        assert (disk.boot / "molt-2.0/initrd").read_text() == "initrd 2.0\n"
        assert any("rootflags=subvol=images/2.0 ro" in text for text in disk.text().values())
    if disk.loader == "extlinux":
        assert disk.extlinux.read_text().startswith("TIMEOUT 10\nLABEL rescue\n\tLINUX /rescue\nDEFAULT molt-2.0\n")


def test_boot_that_fails_falls_back(disk):
    """Two tries, then the previous image, for good; a boot that was good is not counted."""
    disk.commit("2.0")
    assert [disk.boots() for _ in range(4)] == ["2.0", "2.0", "1", "1"]
    disk.is_good("1")
    assert disk.boots() == "1" and "2.0 bad" in disk.tool("list")
    disk.commit("3")
    assert disk.boots() == "3"
    disk.is_good("3")
    assert [disk.boots() for _ in range(4)] == ["3"] * 4


def test_last_try_may_be_good(disk):
    disk.commit("2.0")
    assert [disk.boots(), disk.boots()] == ["2.0", "2.0"]
    disk.is_good("2.0")
    assert [disk.boots() for _ in range(3)] == ["2.0"] * 3
    assert "1 previous" in disk.tool("list")


def test_rollback_goes_back(disk):
    """The older image's hook after a rollback: it is the default, and what was left is not booted, not even as the
    previous one; committed again it is."""
    disk.commit("2.0")
    disk.is_good("2.0")
    disk.commit("3")
    disk.commit("2.0", rollback=True)
    assert disk.boots() == "2.0"
    assert disk.tool("list").splitlines() == ["1 previous", "2.0 running default", "3 bad"]
    disk.commit("3")
    assert disk.boots() == "3"


def test_collect_keeps_three(disk):
    """The running image, the default and the previous one stay; so does everything while nothing is committed."""
    for version in ("4", "5", "6"):
        disk.add(version)
    for directory in ("lost+found", "somebody's", "of-somebody"):
        (disk.store / directory).mkdir()
    disk.commit("4")
    disk.commit("2.0")
    disk.is_good("2.0")
    disk.commit("3")
    disk.runs("5")
    assert disk.tool("collect", "--dry-run") == "1 would be removed\n4 would be removed\n"
    for version, why in {"5": "runs", "3": "is the boot default", "2.0": "boots if the default fails"}.items():
        assert f"image {version} stays: it {why}" in disk.tool("remove", "1", version, code=1)
    assert "there is no image of-somebody" in disk.tool("remove", "of-somebody", code=1)
    assert disk.tool("collect") == "1 removed\n4 removed\n"
    assert sorted(p.name for p in disk.store.iterdir() if p.is_dir()) == [
        "2.0", "3", "5", "6", "lost+found", "of-somebody", "somebody's"]
    assert disk.tool("remove", "6") == "6 removed\n", "never committed: not collected"
    assert not any("molt-1" in name or "molt-1\n" in text for name, text in disk.text().items())
    assert disk.tool("collect") == "" and disk.boots() == "3"
    (disk.path / "os-release").write_text("ID=x\n")
    assert "is not known" in disk.tool("collect", code=1)


@pytest.fixture(params=LOADERS)
def two(request, tmp_path):
    """Two images that have booted well, and the second is the default."""
    disk = Disk(tmp_path / "disk", request.param)
    for version in ("1", "2"):
        disk.add(version)
        disk.commit(version)
        disk.is_good(version)
    return disk


def assert_whole(disk, of):
    """What boots is one of the images, and nothing that a boot loader reads is half written."""
    assert disk.boots() in of
    if disk.loader == "extlinux":
        text = disk.extlinux.read_text()
        assert text.startswith("TIMEOUT 10\nLABEL rescue\n") and text.count("\tAPPEND ") == text.count("LABEL molt-")
        for version in re.findall("LABEL molt-(.*)", text):
            assert (disk.boot / f"molt-{version}/linux").read_text() == f"kernel {version}\n"
            assert (disk.boot / f"molt-{version}/initrd").read_text() == f"initrd {version}\n"
    for _, _, version, file in disk.entries():
        assert f"/molt-{version}/linux\n" in file.read_text() and "\nsort-key molt-" in file.read_text()
        assert (disk.boot / f"molt-{version}/linux").read_text() == f"kernel {version}\n"


def assert_tidy(disk, images=2):
    assert not [p for p in [*disk.boot.rglob("*"), *disk.store.rglob("*")] if p.name.endswith(".molt-new")]
    assert len(disk.entries()) == (images if disk.loader == "systemd-boot" else 0)


def each_step(disk, words, of="12", stride=1, **more):
    """Done as often as it has steps, from the same beginning, and killed a step later each time."""
    disk.save()
    for step in range(1, 200, stride):
        disk.restore()
        if not disk.killed_at(step, words, **more):
            assert step > 4, "there was nothing to be killed in"
            return
        assert_whole(disk, of)
        yield step
    raise AssertionError("it never ends")


def test_commit_killed_at_each_step(two):
    """One of the two boots; done again it is done."""
    two.runs("1")
    for step in each_step(two, [HOOK]):
        two.commit("1")
        assert two.boots() == "1", step
        assert_tidy(two)


def test_first_commit_killed_at_each_step(two):
    """Of an image that has no entry yet: the default is the old one, or the new one, whose kernel is there."""
    two.add("3")
    two.runs("3")
    for step in each_step(two, [HOOK], of="23"):
        two.commit("3")
        assert two.boots() == "3", step
        assert_tidy(two, 3)


def test_good_killed_at_each_step(two):
    """A boot that is good: its image boots, before and after, counted or not."""
    two.add("3")
    two.commit("3")
    assert two.boots() == "3"
    for step in each_step(two, [GOOD], of="3"):
        two.is_good("3")
        assert [two.boots() for _ in range(3)] == ["3"] * 3, step
        assert_tidy(two, 3)


def test_rollback_killed_at_each_step(two):
    two.runs("1")
    for step in each_step(two, [HOOK], MOLT_ROLLBACK="yes"):
        two.commit("1", rollback=True)
        assert [two.boots() for _ in range(3)] == ["1"] * 3, step
        assert "2 bad" in two.tool("list")


def test_removed_killed_at_each_step(two):
    """An image is there whole, or is not there; what is left of it goes the next time."""
    for version in ("3", "2", "1"):
        two.add(version) if version == "3" else None
        two.commit(version)
        two.is_good(version)
    (two.store / "3.sha256").touch()
    for step in each_step(two, [TOOL, "remove", "3"], stride=2):
        listed = two.tool("list")
        assert "3 previous" not in listed and "3 default" not in listed
        if "\n3" in listed:
            assert (two.store / "3/boot/initrd.img").exists()
            two.tool("remove", "3")
        else:
            two.tool("collect")
        assert sorted(p.name for p in two.store.iterdir()) == [".lock", "1", "2", "boot"], step


def test_on_the_disk_before_it_counts(two):
    """Whatever a boot loader reads is flushed before a name leads to it, and the name before the tool says done: the
    directory first, then the file with its whole file system."""
    two.add("3")
    two.runs("3")
    two.steps()
    two.commit("3")
    steps = two.steps()
    moved = [n for n, line in enumerate(steps) if line.startswith("mv ")]
    assert moved
    for n in moved:
        _, _, new, name = steps[n].split()
        if name.startswith(str(two.store)):
            assert steps[n - 1] == f"sync {new}"
            assert steps[n + 1:n + 3] == [f"sync {os.path.dirname(name)}", f"sync {name}"]
        else:
            assert steps[n - 2:n] == [f"sync -f {new}", f"sync {new}"]
            assert steps[n + 1:n + 4] == [f"sync {os.path.dirname(name)}", f"sync -f {name}", f"sync {name}"]
    two.steps()
    two.commit("3")
    assert two.steps() == [], "what is so already is not written again"


@pytest.mark.parametrize("loader", ["extlinux", "systemd-boot"])
def test_disk_that_is_full(loader, tmp_path):
    """The boot loader's, at whatever moment: the hook fails with a sentence, and what booted boots."""
    with small_disk(tmp_path / "boot") as leave:
        disk = Disk(tmp_path, loader)
        for version in ("1", "2"):
            disk.add(version)
        disk.commit("1")
        disk.is_good("1")
        for pages in range(10):
            shutil.rmtree(disk.boot / "molt-2", ignore_errors=True)
            leave(pages)
            disk.runs("2")
            ran = disk.command(HOOK)
            if ran.returncode == 0:
                break
            assert "molt-image: cannot " in ran.stderr, ran.stderr
            assert disk.boots() == "1"
            assert not list(disk.boot.rglob("*.molt-new"))
        assert 2 < pages < 9
        assert disk.boots() == "2"


def test_disk_that_is_full_boots(tmp_path):
    """No counter can be written: the image boots all the same."""
    with small_disk(tmp_path / "store") as leave:
        disk = Disk(tmp_path)
        for version in ("1", "2"):
            disk.add(version)
            disk.commit(version)
        leave(0)
        ran = disk.command(str(TOOL), "choose")
        assert (ran.returncode, ran.stdout) == (0, f"{disk.store}/2\n"), ran.stderr
        assert "this boot of 2 is not counted" in ran.stderr
        leave(4)
        assert disk.boots() == "2"


def test_what_cannot_be_is_refused_whole(tmp_path):
    """No kernel, no image, no store: a sentence, and no boot default is touched."""
    disk = Disk(tmp_path, "extlinux")
    disk.add("1")
    (disk.store / "1/boot/vmlinuz").unlink()
    before = disk.extlinux.read_text()
    assert "no kernel to make one of" in disk.tool("default", "1", code=1)
    assert "there is no image 2" in disk.tool("default", "2", code=1)
    assert "is no version" in disk.tool("default", "../x", code=2)
    assert disk.extlinux.read_text() == before
    disk.commit("7")  # a system whose image is not in the store is left alone
    assert disk.extlinux.read_text() == before
    shutil.rmtree(disk.store)
    disk.commit("1")
    assert "there is no image store" in disk.tool("list", code=1)
