# SPDX-License-Identifier: MIT
"""The Debian packages this room needs, and how they get onto the machine.

Root gets them installed; anyone else is told the one line that does it. `python3 -m qemu.deps`
does the same for the Makefile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from qemu.progress import say, step

# A package, and a file by which it is known to be there. The file is looked for and not dpkg asked,
# so that a tool built by hand counts as well.
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "qemu-system-x86": "qemu-system-x86_64",
    "e2fsprogs": "mke2fs",
    "kmod": "depmod",
    "xz-utils": "xz",
    "busybox-static": "busybox",
}

# For a guest of another architecture, which is cross-built and needs Debian to know of it: `make deps`
# does all of that.
NEEDED_FOR = {"arm64": {
    "qemu-system-arm": "qemu-system-aarch64",
    "gcc-aarch64-linux-gnu": "aarch64-linux-gnu-gcc",
    "libcmocka-dev:arm64": "/usr/lib/aarch64-linux-gnu/libcmocka.so",
    "libcryptsetup12:arm64": "/usr/lib/aarch64-linux-gnu/libcryptsetup.so.12",
}}

# Only who is not root needs these: mmdebstrap's user name spaces, and root's ownership in images.
NEEDED_BY_USERS = {"uidmap": "newuidmap", "fakeroot": "fakeroot"}

SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class MissingPackages(Exception):
    """The text is what a person has to type."""


def missing(architecture: str = "") -> list[str]:
    """The packages that are needed here and are not there."""
    needed = dict(NEEDED) if os.geteuid() == 0 else NEEDED | NEEDED_BY_USERS
    needed |= NEEDED_FOR.get(architecture, {})
    return [package for package, proof in needed.items() if not _there(proof)]


def ensure(architecture: str = "") -> None:
    """Returns when everything is there; raises MissingPackages if that takes a person."""
    packages = missing(architecture)
    if not packages:
        return
    line = f"apt-get install --yes --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0:
        raise MissingPackages(f"packages are missing; as root: {line}")
    with step(f"installing {' '.join(packages)}"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        update = subprocess.run(["apt-get", "update", "-q"], stdout=sys.stderr, env=environment)
        if update.returncode != 0:
            say("apt-get update failed; trying with the lists that are there")
        if subprocess.run(line.split(), stdout=sys.stderr, env=environment).returncode != 0:
            raise MissingPackages(f"packages are missing, and this failed: {line}")


def tool(name: str) -> str:
    """The path of a tool, also of those in sbin, which a user's PATH lacks on Debian."""
    path = shutil.which(name, path=SEARCH)
    if path is None:
        raise MissingPackages(f"{name} is not installed")
    return path


def _there(proof: str) -> bool:
    if proof.startswith("/"):
        return os.path.exists(proof)
    return shutil.which(proof, path=SEARCH) is not None


if __name__ == "__main__":
    try:
        ensure()
    except MissingPackages as error:
        sys.exit(f"qemu: {error}")
