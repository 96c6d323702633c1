# SPDX-License-Identifier: MIT
"""Root images: a Debian made by mmdebstrap and cached, with layers of ours on top.

The Debian takes most of a minute and changes only when Debian does, so it is cached by the date of
the suite's lists. The layers (molt, the kernel's modules, the guest's configuration) take seconds
and are put on anew each time.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from qemu import child, deps
from qemu.cache import entry
from qemu.packages import KEYRING, Suite, acquire_settings, mirror
from qemu.progress import step

# What a guest runs beyond Debian's essential packages. The libraries are those of molt.
PACKAGES = ("nginx", "procps", "iproute2", "kmod", "mount", "libmount1", "libcap2", "libinih1",
            "libcryptsetup12")

# Documents are half of the files and none of the system.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")

# A host's name and addresses have no place in an image; apt's sources would go stale in it.
CLEAN_UP = ('rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/etc/apt/sources.list" '
            '"$1/etc/apt/apt.conf.d/99mmdebstrap" && '
            'rm -rf "$1/var/cache/apt" "$1/var/lib/apt/lists" && '
            'mkdir -p "$1/var/cache/apt/archives/partial" "$1/var/lib/apt/lists/partial"')

ROOT_SIZE = "640M"  # of the file system; the file is as sparse as the system is small


@dataclass(frozen=True)
class Image:
    """The files of one composed image."""

    root: Path
    var: Path
    home: Path


def base(suite: Suite, date: str, cache: Path) -> Path:
    """The tar of a suite's root, from the cache if it was made of lists of that date."""
    recipe = "\n".join([suite.name, date, *PACKAGES, *LEFT_OUT, CLEAN_UP])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    directory = entry(cache / "roots" / suite.name, key, lambda at: _bootstrap(suite, at))
    return directory / "root.tar"


def compose(base_tar: Path, out: Path, layers: list[Path], size: str = ROOT_SIZE) -> Image:
    """Lays the layers over a base and writes the file systems into the directory `out`."""
    out.mkdir(parents=True)
    script = Path(__file__).with_name("compose.sh")
    command = [str(script), str(base_tar), str(out), size, *map(str, layers)]
    if os.geteuid() != 0:
        command = ["fakeroot", "--", *command]
    environment = os.environ | {"PATH": deps.SEARCH}
    run = child.run(command, env=environment)
    if run.returncode != 0:
        raise RuntimeError(f"cannot compose {out.name}: {run.stderr.strip()}")
    return Image(out / "root.ext4", out / "var.ext4", out / "home.ext4")


def _bootstrap(suite: Suite, directory: Path) -> None:
    settings = directory / "acquire.conf"
    settings.write_text(acquire_settings())
    command = [
        "mmdebstrap", "--variant=essential", f"--include={','.join(PACKAGES)}",
        f"--keyring={KEYRING}", f"--aptopt={settings}", "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        f"--customize-hook={CLEAN_UP}",
        suite.name, str(directory / "root.tar"), f"deb {mirror()} {suite.name} main",
    ]
    log = directory / "log"
    with step(f"building a root of Debian {suite.name}"), log.open("w") as output:
        run = child.run(command, stdout=output, stderr=output, stdin=DEVNULL)
        if run.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"mmdebstrap of {suite.name} failed:\n{tail}")
    settings.unlink()


def digest(image: Path) -> str:
    """A fingerprint of an image's bytes: two that are equal show that nothing was written to it."""
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def uuid(image: Path) -> str:
    """That of an ext4."""
    shown = child.run([deps.tool("dumpe2fs"), "-h", str(image)])
    for line in shown.stdout.splitlines():
        if line.startswith("Filesystem UUID:"):
            return line.split()[-1]
    raise RuntimeError(f"{image.name} has no UUID: {shown.stderr.strip()}")


def unclean(image: Path) -> str:
    """Why a file system that nobody has mounted is not clean; "" if it is."""
    shown = child.run([deps.tool("dumpe2fs"), "-h", str(image)])
    fields = {k.strip(): v.strip() for k, _, v in
              (line.partition(":") for line in shown.stdout.splitlines())}
    if shown.returncode != 0:
        return shown.stderr.strip()
    if "needs_recovery" in fields.get("Filesystem features", ""):
        return "its journal was left to be replayed"
    state = fields.get("Filesystem state", "?")
    return "" if state == "clean" else f"its state is {state}"


def read_file(image: Path, path: str, directory: Path) -> str:
    """What is in a file of an ext4 that may have a journal to be replayed; "" if it is not there. The image
    stays as it is: this is done to a copy, in the directory."""
    replayed = directory / f"{image.name}.replayed"
    try:
        child.check(["cp", "--sparse=always", "--reflink=auto", str(image), str(replayed)])
        checked = child.run([deps.tool("e2fsck"), "-fp", str(replayed)])
        if checked.returncode not in (0, 1):  # 1: errors corrected
            raise RuntimeError(f"{image.name}: {checked.stdout.strip()} {checked.stderr.strip()}")
        return child.run([deps.tool("debugfs"), "-R", f"cat {path}", str(replayed)]).stdout
    finally:
        replayed.unlink(missing_ok=True)


def copy(image: Image, out: Path) -> Image:
    """The same image once more, for a second machine that writes to it."""
    out.mkdir(parents=True)
    for file in (image.root, image.var, image.home):
        child.check(["cp", "--sparse=always", str(file), str(out / file.name)])
    return Image(out / image.root.name, out / image.var.name, out / image.home.name)
