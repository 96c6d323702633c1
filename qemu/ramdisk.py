# SPDX-License-Identifier: MIT
"""An initramfs as small as they come: busybox mounts the root and makes way with switch_root.

It does what every initramfs does that an init has to get along with: /proc, /sys, /dev and /run are
mounted, and moved along to the root.
"""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

from qemu import deps

# The root is that of the kernel's command line; its disk may be a moment late.
SCRIPT = """#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /run /root
$b mount -t proc -o nosuid,nodev,noexec proc /proc
$b mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
$b mount -t devtmpfs -o nosuid devtmpfs /dev
$b mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
for word in $($b cat /proc/cmdline); do
	case $word in root=*) root=${word#root=} ;; esac
done
until [ -b "$root" ]; do $b sleep 0.05; done
$b mount -t ext4 -o ro "$root" /root
echo "this /run is older than init" > /run/of-the-initramfs
for d in proc sys dev run; do $b mount --move /$d /root/$d; done
exec $b switch_root /root /sbin/init "$@"
"""


def make(path: Path) -> None:
    """Writes the initramfs."""
    busybox = Path(deps.tool("busybox")).read_bytes()
    _write(path, [_entry("bin", stat.S_IFDIR | 0o755, b""),
                  _entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
                  _entry("init", stat.S_IFREG | 0o755, SCRIPT.encode())])


def pack(tree: Path, path: Path) -> None:
    """Writes an initramfs of all that is in a directory: files, directories, symbolic links."""
    entries = []
    for file in sorted(tree.rglob("*")):
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            data = os.readlink(file).encode()
        else:
            data = b"" if stat.S_ISDIR(mode) else file.read_bytes()
        entries.append(_entry(str(file.relative_to(tree)), mode, data))
    _write(path, entries)


def _write(path: Path, entries: list[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join([*entries, _entry("TRAILER!!!", 0, b"")]), 1))


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """One member in cpio's "newc" format (the kernel's buffer-format.rst): thirteen numbers of eight
    hexadecimal digits; header and name, and then the data, are filled up to four bytes."""
    text = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    inode, user, group, time, major, minor, check = 0, 0, 0, 0, 0, 0, 0
    numbers = (inode, mode, user, group, links, time, len(data), major, minor, major, minor,
               len(text), check)
    return _filled(b"070701" + b"".join(b"%08x" % n for n in numbers) + text) + _filled(data)


def _filled(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
