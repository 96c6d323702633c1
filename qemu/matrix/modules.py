# SPDX-License-Identifier: MIT
"""Of a kernel's modules, those that are needed and what they need, in the order of loading."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

from qemu import child, deps


def closure(directory: Path, names: list[str]) -> list[Path]:
    """Their files below lib/modules/RELEASE, by modules.dep. One that is not there is built in, or
    this kernel has none: whoever needs it will say so."""
    needs = {}
    for text in (directory / "modules.dep").read_text().splitlines():
        file, _, needed = text.partition(":")
        needs[_name(file)] = (file, needed.split())
    order: dict[str, None] = {}
    for name in names:
        if name.replace("-", "_") in needs:
            file, needed = needs[name.replace("-", "_")]
            order |= dict.fromkeys([*reversed(needed), file])  # modprobe's order
    return [directory / file for file in order]


def unpacked(module: Path) -> bytes:
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def install(directory: Path, names: list[str], root: Path) -> None:
    """Puts them into a root's lib/modules, decompressed, and indexes them."""
    at = root / "lib/modules" / directory.name
    for module in closure(directory, names):
        place = at / str(module.relative_to(directory)).removesuffix(".xz")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(unpacked(module))
    at.mkdir(parents=True, exist_ok=True)
    for index in ("modules.builtin", "modules.order"):
        shutil.copy2(directory / index, at / index)
    child.check([deps.tool("depmod"), "-b", str(root), directory.name])


def _name(file: str) -> str:
    return Path(file).name.partition(".ko")[0].replace("-", "_")
