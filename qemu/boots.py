# SPDX-License-Identifier: MIT
"""Ways up and ways down: what each of these boots has to show. See qemu/stories.py."""

from __future__ import annotations

from pathlib import Path

from qemu.console import Console
from qemu.guest import Guest
from qemu.lab import Room
from qemu.stories import SECOND_VERSION, Stage, Story, tell
from qemu.upgrade import upgrade

PROMPT = "# "
BOOT_TIMEOUT = 120.0
UPGRADE_TIMEOUT = 120.0

ALL_RUN = " && ".join(f"initctl status {unit}.service" for unit in ("agent", "stubborn", "writer"))


def all_stories(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    with Room(build, log) as room:
        tell(room, [
            Story("initramfs", _after_initramfs, initrd=True, append="molt.debug"),
            Story("single", _single, reason="guest-reset", append="rw single loglevel=7",
                  root_written=True, farewell="molt: detached loop7"),
            Story("emergency", _emergency, reason="guest-reset", append="rw emergency quiet",
                  root_written=True),
            Story("halt", _halt, reason="halt"),
        ])


def _login(console: Console) -> None:
    """sulogin of the image, whose root has no password."""
    console.expect("to continue): ", BOOT_TIMEOUT)  # what is typed before it reads is thrown away
    console.type("")
    console.expect(PROMPT)


def _up(stage: Stage) -> None:
    stage.guest.wait_booted()
    stage.guest.wait_until(ALL_RUN, BOOT_TIMEOUT, "every service runs")


def _upgrade(guest: Guest) -> None:
    guest.check("mount -o ro /dev/nvme0n2 /new")
    done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
    assert (done.code, done.text) == (0, "committed"), done
    guest.check(f"grep -q '\"{SECOND_VERSION}\"' /etc/os-release")


def _after_initramfs(stage: Stage) -> None:
    """molt as /init finds the root by its UUID; in the root it finds its mounts made, takes them as
    they are, and upgrades from there."""
    _up(stage)
    guest = stage.guest
    guest.check("grep -q 'in the initramfs, looking for the root UUID=' /run/molt/init.log")
    mounted = guest.check("cut -d' ' -f5 /proc/self/mountinfo | sort").splitlines()
    for place in ("/", "/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup", "/var", "/home", "/tmp"):
        assert mounted.count(place) == 1, f"{place} is mounted {mounted.count(place)} times"
    guest.check("grep -q 'writer.service: starting -> running' /run/molt/init.log")  # molt.debug
    _upgrade(guest)
    guest.check("grep -q 'in the initramfs' /run/molt/init.log && mountpoint -q /var && test ! -w /etc")
    guest.send("initctl poweroff")


def _single(stage: Stage) -> None:
    """A shell before any service, file systems mounted; its end goes on with the boot. Then an
    upgrade away from a root that can be written to, and the three keys."""
    console = stage.vm.console
    console.expect(": booting", BOOT_TIMEOUT)  # a console that is not quiet shows PID 1's notices
    console.expect("single-user mode", BOOT_TIMEOUT)
    _login(console)
    console.type("echo sum=$((6*7)) uid=$(id -u); mountpoint /var; initctl status agent.service")
    console.expect("sum=42 uid=0")
    console.expect("/var is a mountpoint")
    console.expect(PROMPT)
    assert "job control" not in console.text(), "the shell has no terminal of its own"
    assert stage.guest.hellos == 0, "services run beside the single-user shell"
    console.type("exit")
    _up(stage)
    stage.guest.check("touch /etc/written && sync")
    _upgrade(stage.guest)
    # Nothing is mounted from it, and /var cannot be unmounted as long as it is there.
    stage.guest.check("modprobe loop; truncate -s 1M /var/disk && losetup /dev/loop7 /var/disk")
    stage.vm.press("ctrl", "alt", "delete")


def _emergency(stage: Stage) -> None:
    """A shell before the local mounts. An fstab that it breaks brings the next one; and the boot
    goes on after both. On the way down, PID 1's own program has been replaced on disk."""
    console = stage.vm.console
    console.expect("emergency mode", BOOT_TIMEOUT)
    _login(console)
    console.type("mountpoint /var; echo /dev/nvme0n9 /srv ext4 x-systemd.device-timeout=1 0 0 >> /etc/fstab; "
                 "echo status=$?")
    console.expect("/var is not a mountpoint")
    console.expect("status=0")
    console.type("exit")
    console.expect("mounting the local file systems of", BOOT_TIMEOUT)
    _login(console)
    console.type("mountpoint /var; grep -c '/dev/nvme0n9 on /srv' /run/molt/init.log")
    console.expect("/var is a mountpoint")
    console.expect("\r\n1\r\n")
    assert stage.guest.hellos == 0, "services run beside the rescue shell"
    console.type("exit")
    _up(stage)
    stage.guest.check("! grep -q -e ' -> running' /run/molt/init.log")  # no molt.debug
    said = console.text()
    assert "booting" not in said, "a quiet console shows notices"
    assert "cannot mount /dev/nvme0n9" in said, "a quiet console hides errors"
    stage.guest.check("cp /usr/sbin/molt /usr/sbin/new && mv /usr/sbin/new /usr/sbin/molt")
    stage.guest.send("initctl reboot")


def _halt(stage: Stage) -> None:
    """Nothing odd on the way up; something that has escaped its service on the way down."""
    _up(stage)
    stage.guest.check("cd /var && (trap '' TERM HUP; setsid sleep 10000 >/dev/null 2>&1 &)")
    stage.guest.send("initctl halt")
