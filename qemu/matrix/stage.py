# SPDX-License-Identifier: MIT
"""One cell with its disks: machines that boot it, one after the other, and what every one is asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from qemu import images, kvm
from qemu.guest import Guest
from qemu.machine import Config, Drive, Machine
from qemu.matrix.base import Base
from qemu.matrix.cells import ARCHITECTURES, SAVED_ROOTS, Cell
from qemu.matrix.system import DISK, SERVICES, UUID, VERSIONS
from qemu.upgrade import Upgrade, upgrade

PORTS = {8080: 8, 9000: 8}  # web and stream, and how many ways to each

MEMORY = "768M"  # 2000 processes find a place in it
SAVING = os.environ.get("MOLT_SAVED") != "no"  # to see whether it makes a difference
DEVICES = ["i6300esb"]

REFUSED, ROLLED_BACK = 3, 4

# Seconds on a PC that is emulated. A machine of another kind takes longer, one with KVM much less.
BOOT, UPGRADE, DOWN, COMMAND = 180.0, 240.0, 90.0, 60.0


def slowness(cell: Cell) -> float:
    """By which every timeout is stretched; MOLT_SLOWNESS is for machines that have much to do."""
    own = float(os.environ.get("MOLT_SLOWNESS", "1"))
    if os.environ.get("MOLT_KVM") == "1" and cell.architecture == "x86_64" and kvm.works():
        return own * 0.3
    return own * (1.0 if cell.architecture == "x86_64" else 1.6)


class Stage:
    """`log` is the directory for consoles, `directory` for the disks of this cell alone."""

    def __init__(self, cell: Cell, kernel: Path, base: Base, directory: Path, log: Path) -> None:
        self.cell = cell
        self.slowness = slowness(cell)
        self.disks = base.disks
        self._base = base
        self._kernel = kernel
        self._log = log
        self._directory = directory
        self._state: dict[str, Path] = {}
        self._boots = 0

    def machine(self, append: str = "", root: str = "", saved: Path | None = None) -> Machine:
        """Another boot from the same disks; `root` is for the kernel's command line, if not the usual."""
        if not self._state:
            self._state = self._base.copy_state(self._directory, saved is not None)
        self._boots += 1
        drives = [Drive(Path(path), serial) for serial, path in self.disks.images.items()]
        drives += [Drive(path, serial, written=True) for serial, path in self._state.items()]
        on_nvme = [drives.pop(0).path] if self.cell.root == "nvme" else []
        config = Config(self._kernel, on_nvme, PORTS, memory=MEMORY, append=append,
                        initrd=Path(self.disks.initrd) if self.disks.initrd else None,
                        architecture=ARCHITECTURES[self.cell.architecture],
                        root=root or self.disks.root, drives=drives, devices=DEVICES, saved=saved,
                        shared=True)
        return Machine(config, self._log / f"console-{self._boots}.log")

    def start_over(self) -> None:
        """The next machine begins with disks as they were at first."""
        self._state = {}

    @contextlib.contextmanager
    def boot(self, append: str = "") -> Iterator[tuple[Machine, Guest]]:
        """A machine that boots, and its guest once the services run. The first one of its base is saved, if
        nothing is appended to its command line."""
        with self.machine(append) as vm:
            guest = self.up(vm)
            if SAVING and not append and not self._base.saved and self.cell.root in SAVED_ROOTS:
                self._base.save(vm, self._state)
            yield vm, guest

    @contextlib.contextmanager
    def booted(self) -> Iterator[tuple[Machine, Guest]]:
        """The same, from the one that was saved if there is one."""
        if not (SAVING and self._base.saved):
            with self.boot() as both:
                yield both
            return
        with self.machine(saved=self._base.saved) as vm:
            guest = Guest(vm)
            self.services_run(guest)
            yield vm, guest

    def up(self, vm: Machine) -> Guest:
        """The guest, once its services run."""
        guest = Guest(vm)
        guest.wait_booted(BOOT * self.slowness)
        self.services_run(guest)
        return guest

    def services_run(self, guest: Guest) -> None:
        states = " && ".join(f"initctl status {name}.service | grep -q running" for name in SERVICES)
        guest.wait_until(states, COMMAND * self.slowness, "every service runs")

    def new(self, guest: Guest, version: str = VERSIONS[1]) -> None:
        """An image comes to /new, the second if no other is named, in the way of its kind."""
        script = self.disks.new.replace(f"({DISK} {VERSIONS[1]})", f"({DISK} {version})")
        self.check(guest, f"set -e\n{script}")

    def root_of(self, version: str) -> str:
        """What the kernel's command line says to boot that image, where one has a UUID."""
        digits = [str(n + 1) for n, v in enumerate(VERSIONS) if v in (VERSIONS[0], version)]
        return self.disks.root.replace(UUID.format(digits[0]), UUID.format(digits[-1]))

    def on_disk(self, serial: str, path: str) -> str:
        """What is in a file of a disk that no machine has now, as a boot loader that replays the journal would
        read it: of a copy. "" if it is not there."""
        return images.read_file(self._state[serial], path, self._directory)

    def check(self, guest: Guest, script: str) -> str:
        return guest.check(script, COMMAND * self.slowness)

    def upgrade(self, guest: Guest, image: str = "") -> Upgrade:
        return upgrade(guest, image or self.disks.image, UPGRADE * self.slowness)

    def commit(self, guest: Guest, image: str = "") -> Upgrade:
        """An upgrade that has to be one."""
        done = self.upgrade(guest, image)
        assert (done.code, done.text) == (0, "committed"), f"{done.code} {done.text}"
        return done

    def is_on(self, guest: Guest, version: str) -> None:
        """What PID 1, a process born now and the services see."""
        said = self.check(guest, ". /etc/os-release; echo $VERSION_ID; . /proc/1/root/etc/os-release; "
                                 "echo $VERSION_ID; cat /proc/1/comm; test / -ef /proc/1/root")
        assert said.split() == [version, version, "molt"], said
        self.services_run(guest)

    def down(self, vm: Machine, guest: Guest, reason: str = "guest-shutdown") -> None:
        """Off by itself, with its file systems clean."""
        guest.send("initctl reboot" if reason == "guest-reset" else "initctl poweroff")
        self.off(vm, reason)

    def off(self, vm: Machine, reason: str) -> None:
        ended = vm.wait_off(DOWN * self.slowness)
        assert ended == reason, f"ended by {ended}, not {reason}"
        self.clean()

    def clean(self) -> None:
        for name, disk in self._state.items():
            why = images.unclean(disk)
            assert not why, f"/{name} is not clean: {why}"
