# SPDX-License-Identifier: MIT
"""Things that take long to make, kept by name.

An entry is made in a directory beside its place and renamed into it when it is whole: what has been
interrupted is never taken for done. Older entries of the same family are removed: a cache that only
grows ends with a full disk.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def entry(family: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` of a family; `make` fills it if it is not there yet."""
    place = family / re.sub(r"[^A-Za-z0-9.+-]", "_", name)
    if place.is_dir():
        return place
    family.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=family))
    try:
        make(unfinished)
        unfinished.chmod(0o755)
        _keep(unfinished, place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _keep(unfinished: Path, place: Path) -> None:
    for old in place.parent.iterdir():
        if old not in (unfinished, place) and not old.name.startswith(".unfinished-"):
            shutil.rmtree(old, ignore_errors=True)
    try:
        unfinished.rename(place)
    except OSError:
        # Someone else made the same at the same time; theirs is as good.
        if not place.is_dir():
            raise
