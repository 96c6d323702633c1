# SPDX-License-Identifier: MIT
"""Of a kernel's modules, those that are needed and what they need, in the order of loading."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

from qemu import child, deps


def there(directory: Path, names: list[str]) -> list[str]:
    """Those of the names that are modules below lib/modules/RELEASE, by modules.dep. One that is not is
    built in, or this kernel has none: whoever needs it will say so."""
    needs = _needs(directory)
    return [name for name in names if _plain(name) in needs]


def closure(directory: Path, names: list[str]) -> list[Path]:
    """The files of those that are there."""
    needs = _needs(directory)
    order: dict[str, None] = {}
    for name in there(directory, names):
        file, needed = needs[_plain(name)]
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
        if (directory / index).exists():  # since 6.19 Debian has them elsewhere
            shutil.copy2(directory / index, at / index)
    child.check([deps.tool("depmod"), "-b", str(root), directory.name])


def _needs(directory: Path) -> dict[str, tuple[str, list[str]]]:
    """Name -> its file, and those of what it needs."""
    needs = {}
    for text in (directory / "modules.dep").read_text().splitlines():
        file, _, needed = text.partition(":")
        needs[_plain(Path(file).name.partition(".ko")[0])] = (file, needed.split())
    return needs


def _plain(name: str) -> str:
    return name.replace("-", "_")
