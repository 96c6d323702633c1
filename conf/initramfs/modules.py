# SPDX-License-Identifier: MIT
"""Kernel modules, what they depend on, and the firmware they ask for."""

from __future__ import annotations

import glob
import gzip
import lzma
import os
import re
import subprocess
from pathlib import Path

from missing import Missing, run_zstd

PACKED = re.compile(r"\.ko(\.(xz|zst|gz))?$")
# The kernel unpacks these itself, if it was built so (CONFIG_FW_LOADER_COMPRESS).
FIRMWARE_PACKED = ("", ".xz", ".zst")

# Directories below kernel/ of /lib/modules/VERSION, and modules by name: what disks hang on, what
# lies on them, and what those ask for by an alias when they are used.
DIRECTORIES = (
    "drivers/nvme/host", "drivers/ata", "drivers/virtio", "drivers/usb/host", "drivers/usb/storage",
    "drivers/mmc", "drivers/cdrom", "drivers/scsi/device_handler",
    "fs/ext4", "fs/squashfs", "fs/erofs", "fs/btrfs", "fs/xfs", "fs/f2fs", "fs/overlayfs",
    "fs/isofs", "fs/fat", "fs/fuse", "fs/9p", "fs/nls",
)
MODULES = (
    "loop", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "xen-blkfront", "hv_storvsc", "vmd",
    "vmw_pvscsi", "mptspi", "mptsas", "megaraid_sas", "mpt3sas", "aacraid", "hpsa",
    "dm-mod", "dm-verity", "dm-bufio", "9pnet_virtio", "usbhid", "hid-generic",
    "crc32c_generic", "crc32c-intel", "libcrc32c", "crc32c", "sha256_generic", "sha256-ssse3",
    "xxhash_generic", "blake2b_generic", "lz4", "zstd",
)


def kernel_version(kernel: str) -> str:
    """The version that an image names (Documentation/arch/x86/boot.rst: kernel_version), or the
    file's name does."""
    path = Path(kernel)
    if "/" not in kernel and not path.exists():
        return kernel
    if not path.is_file():
        raise Missing(f"there is no kernel image {kernel}")
    with path.open("rb") as file:
        head = file.read(0x10000)
    if head[0x202:0x206] == b"HdrS":
        at = int.from_bytes(head[0x20E:0x210], "little") + 0x200
        return head[at:at + 256].split(b"\0")[0].split()[0].decode()
    found = re.match(r"(?:vmlinuz|vmlinux|Image|linux|kernel)-(\S+)$", path.name)
    if not found:
        raise Missing(f"cannot tell which version {kernel} is: say it (--kernel VERSION)")
    return found.group(1)


def normal(name: str) -> str:
    """A dash and an underscore are the same in a module's name."""
    return PACKED.sub("", os.path.basename(name)).replace("-", "_")


class Modules:
    """Those of one kernel, by name."""

    def __init__(self, root: Path, version: str) -> None:
        self.directory = root / version
        if not self.directory.is_dir():
            there = sorted(d.name for d in root.iterdir() if d.is_dir()) if root.is_dir() else []
            raise Missing(f"there are no modules of Linux {version}: no {self.directory} "
                          f"({root} has {', '.join(there) or 'none'}; --modules-root DIRECTORY is where "
                          "to look, --modules none is for a kernel that has built in what it needs)")
        dependencies = self.directory / "modules.dep"
        if not dependencies.exists():
            raise Missing(f"there is no {dependencies}: run depmod {version}")
        self.needs: dict[str, list[str]] = {}
        self.paths: dict[str, str] = {}
        for line in dependencies.read_text().splitlines():
            path, _, needs = line.partition(":")
            self.paths[normal(path)] = path
            self.needs[normal(path)] = [normal(n) for n in needs.split()]
        self.builtin = {normal(n) for n in self._lines("modules.builtin")}
        # What a module asks for beside that: by a name, or an alias (btrfs: crypto-crc32c), which is another
        # module's in each kernel; in one line or in several.
        self.soft: dict[str, list[str]] = {}
        for line in self._lines("modules.softdep"):
            words = line.split()
            if words[:1] == ["softdep"]:
                self.soft.setdefault(normal(words[1]), []).extend(w for w in words[2:] if not w.endswith(":"))
        self.aliased: dict[str, list[str]] = {}
        for line in self._lines("modules.alias"):
            words = line.split()
            if words[:1] == ["alias"] and len(words) == 3:
                self.aliased.setdefault(normal(words[1]), []).append(normal(words[2]))

    def _lines(self, name: str) -> list[str]:
        file = self.directory / name
        return file.read_text().splitlines() if file.exists() else []

    def aliases(self, chosen: set[str]) -> str:
        kept = [line for line in self._lines("modules.alias")
                if line.startswith("alias ") and normal(line.split()[-1]) in chosen]
        return "".join(f"{line}\n" for line in kept)

    def usual(self) -> set[str]:
        return {name for name, path in self.paths.items()
                if path.startswith(tuple(f"kernel/{d}/" for d in DIRECTORIES))
                or name in {normal(m) for m in MODULES}}

    def named(self, names: list[str]) -> set[str]:
        unknown = [n for n in names if normal(n) not in self.paths and normal(n) not in self.builtin]
        if unknown:
            raise Missing(f"{self.directory} has no module {', '.join(unknown)}")
        return {normal(n) for n in names if normal(n) in self.paths}

    def whole(self, names: set[str]) -> set[str]:
        """With all that they need."""
        todo, done = list(names), set()
        while todo:
            name = todo.pop()
            if name in done or name not in self.paths:
                continue
            done.add(name)
            todo += self.needs[name]
            for soft in map(normal, self.soft.get(name, [])):
                todo += [soft] if soft in self.paths else self.aliased.get(soft, [])
        return done

    def plain(self, name: str) -> str:
        """Its path below the directory, not compressed: the kernel may not be able to unpack it."""
        return re.sub(r"\.(xz|zst|gz)$", "", self.paths[name])

    def read(self, name: str) -> bytes:
        path = self.directory / self.paths[name]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Missing(f"there is no {path}, which modules.dep names: run depmod") from None
        try:
            return _unpacked(path, data)
        except (OSError, EOFError, lzma.LZMAError, subprocess.CalledProcessError):
            raise Missing(f"cannot unpack {path}: it is damaged") from None


def _unpacked(path: Path, data: bytes) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return run_zstd(["-dcq"], data, f"to unpack {path}")
    return data


def firmware_of(module: bytes) -> set[str]:
    """What modinfo(8) shows as firmware: words "KEY=VALUE" in the section .modinfo, each ended by
    NUL."""
    return {name.decode() for name in re.findall(rb"\0firmware=([\x21-\x7e]+)(?=\0)", module)}


def find_firmware(name: str, version: str, places: list[Path]) -> dict[str, Path]:
    """The files of that name (which may have stars), by where they are to lie below lib/firmware: in
    the order in which the kernel looks (Documentation/driver-api/firmware/fw_search_path.rst)."""
    for place in places:
        for directory in (place / "updates" / version, place / "updates", place / version, place):
            found = {}
            for packed in FIRMWARE_PACKED:
                pattern = str(directory / (name + packed))
                for path in (glob.glob(pattern) if "*" in name else [pattern]):
                    if os.path.isfile(path):
                        found[os.path.relpath(path, directory)] = Path(path)
            if found:
                return found
    return {}
