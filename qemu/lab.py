# SPDX-License-Identifier: MIT
"""From nothing to a running guest: what the demo and the boot test have in common.

    with Room(build, log) as room:
        materials = room.gather(["bookworm", "trixie"])
        first = room.image("first", "bookworm")
        second = room.image("second", "trixie")
        with room.machine(first, second) as machine: ...

A room is a temporary directory. What is worth keeping goes to .cache (roots, kernels) or to the log
directory (consoles).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from qemu import child, deps, images, kernel
from qemu.images import Image
from qemu.machine import Config, Machine
from qemu.packages import Suite

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("MOLT_CACHE", REPOSITORY / ".cache"))
TOOLS = ("agent", "stream", "web", "badinit")
LAB = "usr/libexec/molt-lab"  # where a guest finds them

NGINX, WEB, STREAM = 80, 8080, 9000  # the ports of the guest's services
MAX_CLIENTS = 8  # of one of them, each with a way of its own to it

# One kernel under both roots: an upgrade changes the image and not the kernel.
KERNEL_SUITE = "bookworm"


class Room:
    """Images and machines of one run, gone at its end."""

    def __init__(self, build: Path, log: Path) -> None:
        self.build = build.resolve()
        self.log = log
        self.directory: Path
        self.kernel: kernel.Kernel
        self._bases: dict[str, Path] = {}

    def __enter__(self) -> Room:
        self.directory = Path(tempfile.mkdtemp(prefix="molt-room-"))
        self.log.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def gather(self, suites: list[str]) -> None:
        """Tools, roots and kernel: from the cache, or made side by side."""
        deps.ensure()
        with ThreadPoolExecutor() as pool:
            jobs = [pool.submit(self._gather_root, name) for name in suites]
            jobs.append(pool.submit(self._gather_kernel))
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                child.stop_all()  # the pool waits for its threads, and they for their children
                raise

    def image(self, name: str, suite: str, extra: list[Path] | None = None) -> Image:
        """An image of our system on a suite's root; `extra` layers come last."""
        layers = [self.kernel.layer, self._install(), REPOSITORY / "qemu/guest", *(extra or [])]
        return images.compose(self._bases[suite], self.directory / name, layers)

    def machine(self, first: Image, second: Image, append: str = "", initrd: Path | None = None,
                name: str = "console", extra: list[Path] | None = None) -> Machine:
        """A machine that boots the first image and has the second on its disk, as name space 2;
        `extra` disks are name spaces from 5 on."""
        disks = [first.root, second.root, first.var, first.home, *(extra or [])]
        config = Config(self.kernel.image, disks,
                        dict.fromkeys((NGINX, WEB, STREAM), MAX_CLIENTS),
                        append=append, initrd=initrd)
        return Machine(config, self.log / f"{name}.log")

    def _gather_root(self, name: str) -> None:
        suite = Suite(name, CACHE / "apt" / name)
        self._bases[name] = images.base(suite, suite.refresh(), CACHE)

    def _gather_kernel(self) -> None:
        # Lists of its own: the roots' are being fetched at the same time.
        suite = Suite(KERNEL_SUITE, CACHE / "apt" / f"{KERNEL_SUITE}-kernel")
        suite.refresh()
        self.kernel = kernel.get(suite, CACHE)

    def _install(self) -> Path:
        """A layer with molt installed as a distribution would, and our tools beside it."""
        layer = self.directory / "installed"
        if layer.is_dir():
            return layer
        child.check(["make", "--no-print-directory", "install", f"DESTDIR={layer}", "PREFIX=/usr",
                     "INIT_LINK=yes", f"BUILD={self.build}"], cwd=REPOSITORY)
        (layer / LAB).mkdir(parents=True)
        for tool in TOOLS:
            shutil.copy2(self.build / "tools" / tool, layer / LAB / tool)
        return layer


def write_layer(directory: Path, files: dict[str, str]) -> Path:
    """A layer of text files, by their paths in the image; what begins with "#!" is executable."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    return directory


def marked(directory: Path, version: str) -> Path:
    """A layer that makes an image tell itself apart: another VERSION_ID and PRETTY_NAME."""
    return write_layer(directory / f"marked-{version}", {"usr/lib/os-release": (
        f'PRETTY_NAME="Debian GNU/Linux {version}"\nNAME="Debian GNU/Linux"\n'
        f'VERSION_ID="{version}"\nID=debian\n')})
