# SPDX-License-Identifier: MIT
"""    python3 -m qemu.sidebyside --build build [losses efi bios asked chosen]"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from qemu import child
from qemu.progress import step
from qemu.sidebyside import asked, bios, efi, losses

STORIES = {"losses": losses.run, "efi": efi.run, "bios": bios.run, "asked": asked.run,
           "chosen": asked.run_own}


def main() -> None:
    parser = argparse.ArgumentParser(prog="qemu.sidebyside")
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("story", nargs="*", help=f"these alone, of {' '.join(STORIES)}")
    options = parser.parse_args()
    if wrong := set(options.story) - set(STORIES):
        parser.error(f"there is no story of {' or '.join(sorted(wrong))}")
    child.exit_on_signals()
    log = options.build.resolve() / "sidebyside"
    log.mkdir(parents=True, exist_ok=True)
    for name in options.story or STORIES:
        with step(f"the story of {name}"), tempfile.TemporaryDirectory(prefix="molt-sidebyside-") as work:
            STORIES[name](Path(work), options.build.resolve(), log)


if __name__ == "__main__":
    main()
