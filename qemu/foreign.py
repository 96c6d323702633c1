# SPDX-License-Identifier: MIT
"""A root for another architecture than the machine's, as small as they come: busybox, molt, and the
libraries that cross building needs anyhow, from where Debian puts foreign ones. Nothing of it has to
run to be put together.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from qemu import child, deps
from qemu.board import BOARDS
from qemu.cache import entry
from qemu.packages import Suite

# Where a mount of ours goes, and what programs expect to be there.
DIRECTORIES = ("bin", "dev", "etc", "home", "lib", "new", "proc", "root", "run", "sbin", "sys", "tmp",
               "usr/bin", "usr/sbin", "usr/lib", "var/lib", "var/log")


class MissingLibrary(Exception):
    """The text names it, and the program that wants it."""


def busybox(suite: Suite, cache: Path) -> Path:
    """The suite's busybox, linked statically, for the suite's architecture; cached."""
    package = "busybox-static"
    directory = entry(cache / f"busybox-{suite.architecture}", suite.version(package),
                      lambda at: _unpack(suite, package, at))
    return directory / "busybox"


def lay_out(root: Path, architecture: str, box: Path) -> None:
    """Directories, and busybox under each of its names. Those are asked of the machine's own busybox,
    which is the same program."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    shutil.copy2(box, root / "bin/busybox")
    applets = child.run([deps.tool("busybox"), "--list"]).stdout.split()
    for name in sorted({*applets, "sh"} - {"busybox", "init", "poweroff", "reboot", "halt"}):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n"
                                     "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def add_libraries(root: Path, architecture: str, programs: list[Path],
                  loaded: Sequence[str] = ()) -> None:
    """All that the programs link to, and their loader; and libraries that they load by these names."""
    board = BOARDS[architecture]
    _copy(_find(board.triplet, Path(board.loader).name, "every program"), root / board.loader)
    todo = list(programs)
    for name in loaded:
        _copy(_find(board.triplet, name, "libmount"), root / "lib" / name)
        todo.append(root / "lib" / name)
    while todo:
        program = todo.pop()
        for name in _needed(program, board.triplet):
            place = root / "lib" / name
            if not place.exists():
                _copy(_find(board.triplet, name, program.name), place)
                todo.append(place)


def _needed(program: Path, triplet: str) -> list[str]:
    shown = child.run([f"{triplet}-readelf", "--dynamic", str(program)]).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", shown)


def _find(triplet: str, name: str, who: str) -> Path:
    for directory in (f"/lib/{triplet}", f"/usr/lib/{triplet}", f"/usr/{triplet}/lib", "/lib64"):
        if (path := Path(directory, name)).exists():
            return path
    raise MissingLibrary(f"{who} wants {name}, of which there is none for {triplet}: `make deps`")


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, place)  # what a link leads to


def _unpack(suite: Suite, package: str, directory: Path) -> None:
    deb = suite.download(package, directory)
    child.check(["dpkg-deb", "--extract", str(deb), str(directory / "tree")])
    found = list(directory.glob("tree/**/bin/busybox"))
    shutil.move(found[0], directory / "busybox")
    shutil.rmtree(directory / "tree")
    deb.unlink()
