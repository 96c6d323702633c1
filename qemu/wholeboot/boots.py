# SPDX-License-Identifier: MIT
"""Boots of one machine, each with what only a boot of its own can show: see `whole`. The console of each,
and what `initctl blame` said of the first, are left in the directory of the logs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from qemu import images
from qemu.guest import Guest
from qemu.progress import step
from qemu.upgrade import document, upgrade
from qemu.wholeboot import facts, hardware, root, wtmp
from qemu.wholeboot.root import PASSWORD, System
from qemu.wholeboot.session import PATIENCE, PROMPT, Session

SEED = "lib/molt/random-seed"
COMMAND_LINE = "console=ttyS0 rootfstype=ext4 ro panic=-1 loglevel=4"


def whole(build: Path, log: Path) -> None:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    log.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="molt-wholeboot-"))
    try:
        system = root.prepare(build, room)
        _boot(system, log / "damaged.log", _damaged)
        _boot(system, log / "first.log", lambda s: _first_and_by_kexec(s, system, log), late=True)
        kept = _between(system)
        _boot(system, log / "last.log", lambda s: _last(s, kept), append="quiet")
        _after(system)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _boot(system: System, log: Path, play: Callable[[Session], None], append: str = "",
          late: bool = False) -> None:
    with step(f"boot: {log.stem}"), hardware.machine(system, log, append, late) as vm:
        play(Session(vm, Guest(vm)))


def _damaged(s: Session) -> None:
    """fsck repairs the root that the system runs from: that cannot go on, and boots again at once."""
    s.hear("the file system that the system runs from has been repaired: rebooting at once")
    s.wait_off("guest-reset")
    assert s.guest.hellos == 0


def _first_and_by_kexec(s: Session, system: System, log: Path) -> None:
    with step("a first boot, with a disk that comes late"):
        _first(s, log)
    with step("people: a login, a shutdown that is called off, a power failure"):
        _people(s)
    with step("the watchdog over a re-exec and an upgrade"):
        _lives(s)
    with step("a boot by kexec, in emergency mode and then single-user mode"):
        _by_kexec(s, system)
    with step("PID 1 stops dead, and the watchdog resets the machine"):
        _stops_dead(s)


def _first(s: Session, log: Path) -> None:
    s.hear("waiting for the device LABEL=late")
    hardware.plug(s.vm, "late")
    s.wait_up()
    s.guest.wait_until("initctl status serial-getty@ttyS0.service && last | grep -q reboot", PATIENCE)
    s.is_so(facts.UP | facts.REPAIRED)
    (log / "blame.txt").write_text(s.run("initctl blame") + "\n")
    blame = document(s.guest, "initctl --json blame")
    stages = [stage["name"] for stage in blame["stages"]]
    assert stages == list(facts.STAGES), stages
    late = [stage["name"] for stage in blame["stages"] if stage["failed"] or "usec" not in stage]
    assert not late, f"stages that failed or have no end: {late}"
    _after_the_boot(s)


def _after_the_boot(s: Session) -> None:
    """A disk that the boot has given up: udev, fsck, and the service that waits for it."""
    s.run("initctl --json status archive.service | grep -q 'waiting for LABEL=after, to be mounted on /mnt'")
    hardware.plug(s.vm, "after")
    s.guest.wait_until("initctl status archive.service | grep -q running", PATIENCE)
    s.is_so(facts.AFTER)


def _people(s: Session) -> None:
    """On the console. Debian 13's login writes no utmp: who is there is seen by the terminal alone."""
    s.log_in()
    s.type("tty; last -n 3")
    s.hear("/dev/ttyS0")
    s.hear("root     ttyS0")
    s.hear("still logged in")
    s.hear(PROMPT)
    s.type("shutdown +1 the kettle boils")
    s.hear("Broadcast message from root (ttyS0)@whole")
    s.hear("the kettle boils")
    s.hear("The system will power off at")
    s.run("test -e /run/nologin && initctl status | grep 'Scheduled: poweroff'")
    s.type("shutdown -c")
    s.hear("The system shutdown has been cancelled.")
    s.run("test ! -e /run/nologin && shutdown --show | grep '^No shutdown'")
    s.run("kill -PWR 1")
    s.hear("The power fails.")
    s.hear("The system will power off at")
    s.run("echo OK >/run/powerstatus; kill -PWR 1")
    s.hear("The power is back.")


def _lives(s: Session) -> None:
    since = float(s.run("initctl reexec && cut -d' ' -f1 /proc/uptime"))
    s.is_so(facts.WATCHED)
    s.run("mount -o ro LABEL=second /new")
    done = upgrade(s.guest, "/new", PATIENCE)
    assert (done.code, done.text) == (0, "committed"), done
    s.is_so(facts.WATCHED)
    s.run("test / -ef /proc/1/root && grep -q ' / / ro' /proc/self/mountinfo")
    # The login has not noticed.
    s.type("echo still=$((6*7)) at=$(tty)")
    s.hear("still=42 at=/dev/ttyS0")
    # A watchdog that nobody pings any more would have reset it by now.
    s.guest.wait_until(f"awk '{{ exit $1 < {since + root.WATCHDOG_SECONDS + 5} }}' /proc/uptime", PATIENCE)


def _by_kexec(s: Session, system: System) -> None:
    seed = s.run("sha256sum </var/lib/molt/random-seed")
    machine_id = s.run("cat /etc/machine-id")
    s.run("kexec -l /boot/vmlinuz --initrd=/boot/initrd "
          f"--append='{COMMAND_LINE} root=UUID={system.root_uuid} emergency single'")
    s.guest.send("/sbin/reboot")
    s.hear("emergency mode, as the kernel command line says")
    s.maintenance("not " + PASSWORD, "Login incorrect")
    s.maintenance(PASSWORD, "# ")
    s.type("mountpoint /var; echo mode=$((40+2)) $0")
    s.hear("/var is not a mountpoint")
    s.hear("mode=42")
    s.type("exit")
    s.hear("single-user mode, as the kernel command line says")
    s.maintenance(PASSWORD, "# ")
    s.type("mountpoint /var; initctl status agent.service")
    s.hear("/var is a mountpoint")
    s.hear("# ")
    assert s.guest.hellos == s.hellos, "services run beside the single-user shell"
    s.type("exit")
    s.wait_up()
    s.is_so(facts.WATCHED)
    s.run("grep -q 'emergency single' /proc/cmdline")
    assert s.run("cat /etc/machine-id") == machine_id
    assert s.run("sha256sum </var/lib/molt/random-seed") != seed, "the seed was used twice"


def _stops_dead(s: Session) -> None:
    s.run("sync")
    s.guest.send("/usr/libexec/molt-lab/arrest 1")
    s.wait_off("guest-reset")
    assert any(event.get("event") == "WATCHDOG" for event in s.vm.qmp.events), s.vm.qmp.events


def _between(system: System) -> bytes:
    """The machine was cut off: the disks tell, and have what was to be kept."""
    assert images.unclean(system.disks.var), "a machine that was reset has unmounted its disks"
    return root.read(system.disks.var, SEED)


def _last(s: Session, seed: bytes) -> None:
    """After the reset: journals are replayed, the clock goes on, nobody is asked. Then the three keys,
    which are to switch off."""
    s.wait_up()
    s.is_so({name: script for name, script in facts.UP.items() if "clock" not in name})
    said = s.run(f"cat {facts.LOG}")
    assert "root shell" not in said, said
    assert s.run("od -An -v -tx1 /var/lib/molt/random-seed | tr -d ' \\n'") != seed.hex()
    # The hardware's clock has begun anew, before the last shutdown.
    s.run(f"grep 'the clock was before the last shutdown' {facts.LOG}")
    s.run("mkdir -p /etc/molt/init.conf.d && printf '[Manager]\\nCtrlAltDel=poweroff\\n' "
          ">/etc/molt/init.conf.d/60-keys.conf && telinit q")
    s.vm.press("ctrl", "alt", "delete")
    s.wait_off("guest-shutdown")


def _after(system: System) -> None:
    disks = system.disks
    for disk in (disks.root, disks.var, disks.home, disks.late, disks.after):
        why = images.unclean(disk)
        assert not why, f"{disk.name} is not clean: {why}"
    assert not root.is_damaged(disks.root, "etc/hosts")
    assert not root.is_damaged(disks.var, "lib/dpkg/status")
    assert len(root.read(disks.var, SEED)) == 64
    wtmp.check(root.read(disks.var, "log/wtmp"))
