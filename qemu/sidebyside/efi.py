# SPDX-License-Identifier: MIT
"""systemd-boot in the firmware OVMF, an ESP of FAT, and images that are subvolumes of a btrfs.

One is booted by it and upgraded to two; the plug is pulled at several moments, and what the ESP could
be after each write of the commit is looked at with and without the real boot loader. Three panics, four
hangs: each is left after its tries. What an administrator has changed is there all the while.
"""

from __future__ import annotations

import mmap
import random
import re
import shutil
from pathlib import Path

from qemu import child, deps
from qemu.guest import Guest
from qemu.machine import Config, Machine
from qemu.progress import say, step
from qemu.sidebyside import layout, writes
from qemu.sidebyside.fat import Damaged, Fat
from qemu.upgrade import upgrade

BOOT = 240.0
ESP_SIZE, STATE_SIZE = 160 << 20, 640 << 20
MODULES = "btrfs vfat nls_cp437 nls_ascii"
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
LOADER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
VERSIONS = ("one", "two", "three", "four")
COMMAND_LINE = ("root=LABEL=state rootfstype=btrfs rootflags=subvol=images/@VERSION@ ro console=ttyS0 "
                "panic=-1 loglevel=6 rootdelay=120")
FSTAB = ("LABEL=state /var btrfs subvol=var 0 0\nLABEL=state /var/lib/molt/images btrfs subvol=images 0 0\n"
         "LABEL=ESP /boot vfat umask=0077 0 0\n")
DRAWN = 2  # at each moment; losses.py draws more


class Story:
    def __init__(self, at: Path, build: Path, log: Path) -> None:
        self._at, self._log = at, log
        with step("making an ESP, a btrfs, and four images"):
            self._make(build)
        self._boots = 0

    def run(self) -> None:
        self._before_the_hook()
        done, steps, log = self._commit()
        self._look_at_every_loss(log, done)
        for number in (steps // 2, steps):
            self._inside_the_hook(number)
        self._what_does_not_boot()

    # ---- the disks ----

    def _make(self, build: Path) -> None:
        at = self._at
        materials = layout.gather(at, build, MODULES)
        layout.add_kernel(materials, materials.tree)
        layout.variant(materials.tree, files={"etc/fstab": FSTAB, "etc/molt/image.conf":
                                              f"Tries=2\nCommandLine={COMMAND_LINE}\n"})
        self._state = layout.empty(at / "state", STATE_SIZE)
        child.check([deps.tool("mkfs.btrfs"), "-q", "-L", "state", str(self._state)])
        boot = at / "boot"
        (boot / "loader/entries").mkdir(parents=True)
        (boot / "EFI/BOOT").mkdir(parents=True)
        shutil.copy2(LOADER, boot / "EFI/BOOT/BOOTX64.EFI")
        (boot / "loader/loader.conf").write_text("timeout 0\n")
        with layout.mounted(self._state, at / "mounted") as state:
            for name in ("var", "images"):
                child.check(["btrfs", "-q", "subvolume", "create", str(state / name)])
            for directory in ("lib/molt/images", "log"):
                (state / "var" / directory).mkdir(parents=True)
            (state / "var/lib/molt/carry/etc").mkdir(parents=True)
            (state / "var/lib/molt/carry/etc/motd").write_text("as installed\n")
            for version in VERSIONS:
                init = {"three": layout.PANICS, "four": layout.HANGS}.get(version, "")
                layout.variant(materials.tree, init, {"etc/motd": f"of image {version}\n"})
                layout.tool("make", "--root", materials.tree, "--version", version, "--out",
                            state / "images" / version, "--format=btrfs")
            layout.tool("default", "one", MOLT_STORE=str(state / "images"), MOLT_BOOT=str(boot),
                        MOLT_IMAGE_CONF=str(materials.tree / "etc/molt/image.conf"),
                        MOLT_OS_RELEASE="/dev/null")
        self._esp = self._make_esp(at / "esp", boot)
        self._kernel = materials.kernel.image.read_bytes()
        self._initrd = materials.initrd.read_bytes()

    @staticmethod
    def _make_esp(disk: Path, tree: Path) -> Path:
        """All of a disk: a firmware does not insist on a partition."""
        layout.empty(disk, ESP_SIZE)
        child.check([deps.tool("mkfs.vfat"), "-F", "32", "-n", "ESP", str(disk)])
        child.check(["mcopy", "-s", "-i", str(disk), *map(str, tree.iterdir()), "::"])
        return disk

    def _machine(self, esp: Path | None = None, log: Path | None = None) -> Machine:
        self._boots += 1
        variables = self._at / "variables"
        shutil.copy2(VARIABLES, variables)
        firmware = ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
                    "-drive", f"if=pflash,format=raw,file={variables}"]
        return Machine(Config(None, [esp or self._esp, self._state], options=firmware, resets=True,
                              memory="768M", writes=log), self._log / f"efi-{self._boots}.log")

    # ---- the story ----

    def _up(self, vm: Machine, version: str) -> Guest:
        """That one, chosen by the boot loader, and found good."""
        vm.console.expect(f"subvol=images/{version} ", BOOT)
        guest = Guest(vm)
        guest.wait_booted(BOOT)
        guest.check(f"grep -qx IMAGE_VERSION={version} /etc/os-release")
        guest.wait_until("grep -q 'the boot is good' /run/molt/init.log", BOOT, "a good boot")
        return guest

    def _before_the_hook(self) -> None:
        """The very first step to the disk of the commit is not taken any more; an administrator's word is
        there, and so it is with every image from now on."""
        with self._machine() as vm:
            guest = self._up(vm, "one")
            guest.check("test -f /boot/loader/entries/molt-one.conf")
            assert guest.check("cat /etc/motd") == "as installed"
            guest.check("echo 'of this machine' >/etc/motd")
            self._stand_at(vm, guest, 1)

    def _stand_at(self, vm: Machine, guest: Guest, number: int) -> None:
        """The upgrade gets so far in its commit, and the plug is pulled."""
        guest.check(f"rm -f /run/step; echo {number} >/run/cut; sync")
        guest.send("initctl upgrade /var/lib/molt/images/two", lambda line: say(f"the guest: {line}"))
        vm.console.expect(f"the hook stands at step {number}", BOOT)
        vm.cut_power()

    def _commit(self) -> tuple[int, int, Path]:
        """The plug is pulled right after `committed`: nothing but what was flushed counts. Returns how many
        writes there were by then, and how many steps."""
        self._save()
        log = layout.empty(self._at / "writes", 0)
        with self._machine(log=log) as vm:
            guest = self._up(vm, "one")
            assert guest.check("cat /etc/motd") == "of this machine"
            said = upgrade(guest, "/var/lib/molt/images/two", BOOT)
            assert (said.code, said.text) == (0, "committed"), said
            done = len(writes.read(log))
            assert guest.check("cat /etc/motd") == "of this machine"
            steps = int(guest.check("cat /run/step"))
            vm.cut_power()
        return done, steps, log

    def _save(self) -> None:
        for disk in (self._esp, self._state):
            child.check(["cp", "--sparse=always", str(disk), f"{disk}.before"])

    def _restore(self) -> None:
        for disk in (self._esp, self._state):
            child.check(["cp", "--sparse=always", f"{disk}.before", str(disk)])

    def _chosen(self, disk: mmap.mmap) -> str:
        """By the rules of systemd-boot: of molt-*, those with tries left first, then by sort-key. What the
        entry names has to be whole."""
        esp = Fat(disk)
        assert b"default molt-*\n" in esp.read("loader/loader.conf")
        found = []
        for entry in esp.list("loader/entries").values():
            named = re.fullmatch(r"molt-(\w+)(?:\+(\d+)(?:-\d+)?)?\.conf", entry.name)
            try:
                text = esp.read(f"loader/entries/{entry.name}").decode("utf-8", "replace") if named else ""
            except Damaged:
                continue  # and so does systemd-boot
            keys = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
            if named and "linux" in keys:
                found.append((named[2] == "0", keys.get("sort-key", "~"), named[1], keys))
        _, _, version, keys = min(found, key=lambda entry: entry[:2])
        assert f"subvol=images/{version} ro" in keys["options"], keys
        assert esp.read(keys["linux"]) == self._kernel, f"the kernel of {version} is torn"
        assert esp.read(keys["initrd"]) == self._initrd, f"the initramfs of {version} is torn"
        return version

    def _look_at_every_loss(self, log: Path, done: int) -> None:
        """After each write until `committed`, and for each part of what was not flushed by then: one of the two
        boots, whole; once it was said, two. A few of them are given to the real boot loader."""
        chance = random.Random(4)
        disk = writes.Disk(Path(f"{self._esp}.before"), self._at / "found")
        samples: dict[str, bytes] = {}
        looked = {"one": 0, "two": 0}
        all_writes = writes.read(log)
        with step(f"looking at what {done} writes can leave"):
            for number, write in enumerate(all_writes[:done], start=1):
                disk.take(write)
                few = number < done and disk.pending() > 2  # of a kernel, all are alike
                for what in disk.outcomes(chance, 0 if few else DRAWN):
                    version = self._chosen(disk.data)
                    assert number < done or version == "two", f"committed, and {what} of the last writes: one"
                    looked[version] += 1
                    if what.startswith("part"):
                        samples[version] = disk.data[:]
        say(f"looked at {looked['one']} disks that boot one, {looked['two']} that boot two")
        # How many writes there are behind the flip, and so how many disks, is the kernel's business.
        assert looked["one"] > 10 and looked["two"] >= DRAWN
        for version, data in samples.items():
            esp = self._at / "sample"
            esp.write_bytes(data)
            with self._machine(esp) as vm:
                vm.console.expect(f"subvol=images/{version} ", BOOT)

    def _inside_the_hook(self, number: int) -> None:
        """The plug at another moment of the commit, on the disks as they were before it: whatever comes up is one
        of the two, and an upgrade ends well then."""
        self._restore()
        with self._machine() as vm:
            self._stand_at(vm, self._up(vm, "one"), number)
        with self._machine() as vm:
            vm.console.expect("subvol=images/", BOOT)
            guest = Guest(vm)
            guest.wait_booted(BOOT)
            version = guest.check("sed -n 's/^IMAGE_VERSION=//p' /etc/os-release")
            say(f"the plug was pulled at step {number}: {version} boots")
            assert version in ("one", "two")
            if version == "one":
                assert upgrade(guest, "/var/lib/molt/images/two", BOOT).text == "committed"
            else:
                guest.wait_until("grep -q 'the boot is good' /run/molt/init.log", BOOT, "a good boot")
            assert guest.check("cat /etc/motd") == "of this machine"

    def _what_does_not_boot(self) -> None:
        """Not upgraded to, but made the default for the next boot. systemd-boot counts in the names."""
        with self._machine() as vm:
            guest = self._up(vm, "two")
            assert self._entries(guest) == "molt-one.conf molt-two.conf"
            assert guest.check("molt-image carried") == "/etc/motd: differs"
            guest.check("molt-image default three")
            assert self._entries(guest) == "molt-one.conf molt-three+2.conf molt-two.conf"
            guest.send("initctl reboot")
            for _ in range(2):
                vm.console.expect("subvol=images/three ", BOOT)
                vm.console.expect("this image panics", BOOT)
            vm.console.expect("subvol=images/two ", BOOT)
            vm.cut_power()  # it was not good yet: it has been before
        with self._machine() as vm:
            guest = self._up(vm, "two")
            assert self._entries(guest) == "molt-one.conf molt-three+0-2.conf molt-two.conf"
            guest.check("molt-image default four")
            guest.send("initctl reboot")
            for _ in range(2):
                vm.console.expect("subvol=images/four ", BOOT)
                vm.console.expect("this image hangs", BOOT)
                vm.qmp.execute("system_reset")
            vm.console.expect("subvol=images/two ", BOOT)
            guest.wait_again(BOOT)
            assert guest.check("molt-image list") == "four bad\none previous\nthree bad\ntwo running default"
            assert "three removed" in guest.check("molt-image collect")
            assert self._entries(guest) == "molt-one.conf molt-two.conf"
            assert guest.check("cat /etc/motd") == "of this machine"

    @staticmethod
    def _entries(guest: Guest) -> str:
        return " ".join(guest.check("ls /boot/loader/entries").split())


def run(at: Path, build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    Story(at, build, log).run()
