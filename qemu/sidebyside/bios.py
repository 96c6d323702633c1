# SPDX-License-Identifier: MIT
"""extlinux on an ext4, and images that are files on another: molt as /init finds them by molt.image=.

One is booted and upgraded to two, and the plug is pulled after the commit. extlinux reads no journal:
what it could find after each write is looked at as it does, without. Three comes up and is never good:
after its tries two boots. Four panics, which extlinux does not count.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

from qemu import child, deps
from qemu.guest import Guest
from qemu.machine import Config, Machine
from qemu.progress import say, step
from qemu.sidebyside import layout, writes
from qemu.upgrade import upgrade

BOOT = 240.0
BOOT_SIZE, STATE_SIZE = 160 << 20, 256 << 20
MODULES = "loop erofs"
VERSIONS = ("one", "two", "three")
COMMAND_LINE = ("root=LABEL=state rootfstype=ext4 molt.image=lib/molt/images/@VERSION@.erofs rw "
                "console=ttyS0 panic=-1 loglevel=6 rootdelay=120")
FSTAB = "LABEL=state /var ext4 defaults 0 0\nLABEL=BOOT /boot ext4 defaults 0 0\n"
COUNT = "[Service]\nType=oneshot\nExecStart=/usr/sbin/molt-image count\n"
BROKEN = "[Service]\nType=oneshot\nExecStart=/bin/false\n"
DRAWN = 6


def run(at: Path, build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    Story(at, build, log).run()


class Story:
    def __init__(self, at: Path, build: Path, log: Path) -> None:
        self._at, self._log = at, log
        self._boots = 0
        with step("making an ext4 with extlinux, and three image files"):
            self._make(build)

    def run(self) -> None:
        done, log = self._commit()
        self._look_at_every_loss(log, done)
        self._what_is_never_good()

    def _make(self, build: Path) -> None:
        at = self._at
        materials = layout.gather(at, build, MODULES)
        layout.add_kernel(materials, materials.tree)
        conf = (materials.tree / "etc/molt/init.conf").read_text()
        layout.variant(materials.tree, files={
            "etc/fstab": FSTAB, "etc/molt/system/count.service": COUNT, "etc/molt/system/broken.service": BROKEN,
            "etc/molt/image.conf": f"Tries=2\nCommandLine={COMMAND_LINE}\n"})
        state = at / "state-tree"
        images = state / "lib/molt/images"
        images.mkdir(parents=True)
        (state / "log").mkdir()
        for version in VERSIONS:
            services = "count.service agent.service" + (" broken.service" if version == "three" else "")
            layout.variant(materials.tree, files={"etc/molt/init.conf": conf.replace(
                "Services=agent.service", f"Services={services}")})
            layout.tool("make", "--root", materials.tree, "--version", version, "--out",
                        images / f"{version}.erofs")
        self._kernel = materials.kernel.image.read_bytes()
        self._state = at / "state"
        # What extlinux 6.04 can read.
        self._boot = at / "boot"
        child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-O", "^64bit,^metadata_csum", "-L", "BOOT",
                     str(self._boot), f"{BOOT_SIZE >> 10}k"])
        with layout.mounted(self._boot, at / "mounted") as boot:
            (boot / "extlinux").mkdir()
            (boot / "extlinux/extlinux.conf").write_text("SERIAL 0\nPROMPT 0\nTIMEOUT 1\n")
            child.check(["extlinux", "--install", str(boot / "extlinux")])
            layout.tool("default", "one", MOLT_STORE=str(images), MOLT_BOOT=str(boot), MOLT_OS_RELEASE="/dev/null",
                        MOLT_IMAGE_CONF=str(materials.tree / "etc/molt/image.conf"))
        child.check([deps.tool("mke2fs"), "-q", "-t", "ext4", "-L", "state", "-d", str(state), str(self._state),
                     f"{STATE_SIZE >> 10}k"])

    def _machine(self, log: Path | None = None) -> Machine:
        self._boots += 1
        return Machine(Config(None, [self._boot, self._state], resets=True, writes=log),
                       self._log / f"bios-{self._boots}.log")

    def _up(self, vm: Machine, version: str) -> Guest:
        vm.console.expect(f"images/{version}.erofs ", BOOT)
        guest = Guest(vm)
        guest.wait_booted(BOOT)
        self._is_good(guest, version)
        return guest

    @staticmethod
    def _is_good(guest: Guest, version: str) -> None:
        guest.check(f"grep -qx IMAGE_VERSION={version} /etc/os-release")
        guest.wait_until("grep -q 'the boot is good' /run/molt/init.log", BOOT, "a good boot")

    def _commit(self) -> tuple[int, Path]:
        """Returns how many writes there were when it had said `committed`; then the plug is pulled."""
        shutil.copy2(self._boot, self._at / "before")
        log = layout.empty(self._at / "writes", 0)
        with self._machine(log) as vm:
            guest = self._up(vm, "one")
            assert guest.check("cat /var/lib/molt/images/boot") == "one good"
            said = upgrade(guest, "/var/lib/molt/images/two.erofs", BOOT)
            assert (said.code, said.text) == (0, "committed"), said
            done = len(writes.read(log))
            vm.cut_power()
        return done, log

    def _look_at_every_loss(self, log: Path, done: int) -> None:
        """After each write until `committed`, and for each part of what was not flushed by then."""
        chance = random.Random(4)
        disk = writes.Disk(self._at / "before", self._at / "found")
        looked = {"one": 0, "two": 0}
        with step(f"looking at what {done} writes can leave"):
            for number, write in enumerate(writes.read(log)[:done], start=1):
                disk.take(write)
                if disk.pending() > 8 and number % 16 and number < done:
                    continue  # of a kernel, most are alike
                for what in disk.outcomes(chance, DRAWN):
                    version = self._chosen(disk.path)
                    assert number < done or version == "two", f"committed, and {what} of the last writes: one"
                    looked[version] += 1
        say(f"looked at {looked['one']} disks that boot one, {looked['two']} that boot two")
        assert min(looked.values()) > 10

    def _chosen(self, found: Path) -> str:
        text = self._read(found, "/extlinux/extlinux.conf").decode("utf-8", "replace")
        named = re.findall(r"^DEFAULT molt-(.*)$", text, re.MULTILINE)
        assert len(named) == 1 and named[0] in ("one", "two"), f"extlinux.conf is torn: {text!r}"
        assert text.startswith("DEFAULT ") and f"LABEL molt-{named[0]}\n\tLINUX /molt-{named[0]}/linux\n" in text
        assert f"images/{named[0]}.erofs rw" in text
        if named[0] == "two":
            assert self._read(found, "/molt-two/linux") == self._kernel, "the kernel of two is torn"
        return named[0]

    def _read(self, disk: Path, path: str) -> bytes:
        """Without a look at the journal, as a boot loader does."""
        file = self._at / "read"
        file.unlink(missing_ok=True)
        said = child.run([deps.tool("debugfs"), "-c", "-n", "-R", f"dump {path} {file}", str(disk)])
        assert file.exists(), f"{path} cannot be read: {said.stderr}"
        return file.read_bytes()

    def _what_is_never_good(self) -> None:
        with self._machine() as vm:
            guest = self._up(vm, "two")
            guest.check("molt-image default three")
            guest.send("initctl reboot")
            for left in (1, 0):
                vm.console.expect("images/three.erofs ", BOOT)
                guest.wait_again(BOOT)
                guest.wait_until(f"grep -qx 'three {left}' /var/lib/molt/images/boot", BOOT, "that it was counted")
                vm.qmp.execute("system_reset")
            vm.console.expect("images/two.erofs ", BOOT)
            guest.wait_again(BOOT)
            self._is_good(guest, "two")
            assert guest.check("molt-image list") == "one previous\nthree bad\ntwo running default"
