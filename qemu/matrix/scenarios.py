# SPDX-License-Identifier: MIT
"""What each scenario of qemu/matrix/cells.py plays, and has to see. Each raises AssertionError or
MachineError; one that returns True has seen molt refuse what it has to refuse."""

from __future__ import annotations

import functools
from collections.abc import Callable

from qemu.guest import Guest
from qemu.lab import LAB
from qemu.load import Http, Load, Streams
from qemu.matrix import cut
from qemu.matrix.cells import CUTS
from qemu.matrix.stage import BOOT, COMMAND, DOWN, REFUSED, ROLLED_BACK, Stage
from qemu.matrix.system import DISK, PLACE, WATCHDOG_SECONDS
from qemu.upgrade import document

Play = Callable[[Stage], bool | None]

PROMPT = "# "
OF_MOLT = ("ext4", "btrfs", "squashfs", "erofs", "verity")  # whose initramfs is molt's own
PROCESSES = 2000
UPGRADES = 100

# A copy of the running image that can be written to, in memory, on /new.
WRITABLE = """set -e
mkdir -p /run/same
mount --bind / /run/same
mount -t tmpfs -o mode=755 spoilt /new
cp -a /run/same/. /new
"""


def boot(stage: Stage) -> bool:
    with stage.boot() as (vm, guest):
        stage.is_on(guest, "one")
        mounted = stage.check(guest, "awk '{ print $2 }' /proc/mounts").splitlines()
        if stage.cell.root in OF_MOLT:
            stage.check(guest, "grep -q 'in the initramfs, looking for the root' /run/molt/init.log")
        for place in ("/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup", "/var", "/home", "/tmp"):
            assert mounted.count(place) == 1, f"{place} is mounted {mounted.count(place)} times"
        if stage.cell.kernel == "5.10":
            said = vm.console.text()
            assert stage.cell.refusal in said, f"nothing on the console says {stage.cell.refusal}"
        stage.down(vm, guest)
    return stage.cell.kernel == "5.10"


def upgrade(stage: Stage) -> bool:
    with stage.booted() as (vm, guest):
        stage.new(guest)
        if stage.cell.refusal:
            _refused(stage, guest, stage.cell.refusal)
        else:
            resident = _resident(stage, guest)
            done = stage.commit(guest)
            assert done.blackout_ms, "nothing was said of the blackout"
            stage.is_on(guest, "two")
            _lives_in(stage, guest, resident, "two")
            root = stage.check(guest, "awk '$2 == \"/\" { print $3 }' /proc/mounts").splitlines()[-1]
            wanted = {"nvme": "ext4", "verity": "squashfs", "squashfs": "overlay"}
            assert root == wanted.get(stage.cell.root, stage.cell.root), f"the root is a {root}"
        stage.down(vm, guest)
    return bool(stage.cell.refusal)


def _resident(stage: Stage, guest: Guest) -> str:
    """A process with its working directory and a descriptor in the image, which no pivot moves."""
    return stage.check(guest, f"cd {PLACE}; sleep 100000 3<. </dev/null >/dev/null 2>&1 & echo $!").strip()


def _lives_in(stage: Stage, guest: Guest, pid: str, version: str) -> None:
    seen = stage.check(guest, f"cat /proc/{pid}/cwd/file-0 /proc/{pid}/fd/3/file-0").split()
    assert seen == [version] * 2, f"working directory and descriptor of a process: {seen}"


def _refused(stage: Stage, guest: Guest, word: str) -> None:
    done = stage.upgrade(guest)
    assert done.code == REFUSED and word in done.text, f"{done.code} {done.text}"
    assert not done.of_kind("blackout"), "refused after the freeze"
    stage.is_on(guest, "one")


def rollback(stage: Stage) -> None:
    """By what fails on the new image, and by who does not like it."""
    with stage.booted() as (vm, guest):
        resident = _resident(stage, guest)
        _spoilt(stage, guest, f"printf '#!/bin/sh\\nexit 1\\n' > /new/{LAB}/probe", "probe.service")
        _lives_in(stage, guest, resident, "one")
        stage.new(guest)
        stage.commit(guest)
        stage.is_on(guest, "two")
        _lives_in(stage, guest, resident, "two")
        back = guest.run("initctl rollback", COMMAND * 4 * stage.slowness)
        assert back.code == ROLLED_BACK and "\nrolled back: asked for" in back.output, \
            f"initctl rollback: exit {back.code}: {back.output}"
        stage.is_on(guest, "one")
        _lives_in(stage, guest, resident, "one")
        stage.down(vm, guest)


def _spoilt(stage: Stage, guest: Guest, spoil: str, word: str) -> None:
    """An upgrade to a copy of the running image that something is wrong with."""
    stage.check(guest, f"{WRITABLE}{spoil}")
    done = stage.upgrade(guest, "/new")
    assert done.code == ROLLED_BACK and done.text.startswith("rolled back: ") and word in done.text, \
        f"{done.code} {done.text}"
    stage.is_on(guest, "one")
    stage.check(guest, "umount /new && umount /run/same && ! grep -qx molt-guard /proc/[0-9]*/comm")
    assert not document(guest, "initctl holders --json")["holders"], "the image is still held"


def spoilt_init(stage: Stage, how: str, word: str) -> None:
    """Without its guard PID 1 would panic the kernel."""
    with stage.booted() as (vm, guest):
        badinit = f"cp /{LAB}/badinit /new/usr/sbin/molt && "
        if how == "swap":
            badinit = (f"cp -a /new/usr/sbin/molt /new/usr/sbin/init.next && {badinit}"
                       "mv /new/usr/sbin/init.next /new/sbin/init.next && "
                       "echo swap > /new/etc/badinit && rm /new/lib/libinih.so.1*")
        else:
            badinit += f"echo yes {how} > /new/etc/badinit"
        _spoilt(stage, guest, badinit, word)
        stage.new(guest)
        stage.commit(guest)
        stage.is_on(guest, "two")
        stage.down(vm, guest)


def single(stage: Stage) -> None:
    _with_shell(stage, "single", "single-user mode", "/var is a mountpoint")


def rescue(stage: Stage) -> None:
    _with_shell(stage, "rescue", "single-user mode", "/var is a mountpoint")


def emergency(stage: Stage) -> None:
    _with_shell(stage, "emergency", "emergency mode", "/var is not a mountpoint")


def _with_shell(stage: Stage, word: str, said: str, state: str) -> None:
    with stage.machine(word) as vm:
        console, slow = vm.console, stage.slowness
        console.expect(said, BOOT * slow)
        console.expect(PROMPT, COMMAND * slow)
        console.type("grep -q ' /var ' /proc/mounts && is=is || is='is not'; "
                     "echo /var $is a mountpoint, uid=$(id -u).")
        console.expect(f"{state}, uid=0.", COMMAND * slow)
        console.expect(PROMPT, COMMAND * slow)
        console.type("exit")
        guest = stage.up(vm)
        stage.down(vm, guest, "guest-reset")


def load(stage: Stage) -> None:
    """Nobody outside notices."""
    with stage.booted() as (vm, guest):
        stage.new(guest)
        ways = vm.ports[8080]
        clients = Load([Http("web, new connections", "127.0.0.1", ways[:2], False, clients=2, pause=0.1),
                        Http("web, kept connections", "127.0.0.1", ways[2:4], True, clients=2, pause=0.1)],
                       [Streams("stream.service", "127.0.0.1", vm.ports[9000], clients=8)])
        clients.start()
        try:
            clients.wait_flowing(COMMAND * stage.slowness)
            stage.commit(guest)
        finally:
            stats = clients.stop()
        assert not stats.problems, "\n".join(stats.problems)
        assert [s.still_open for s in stats.streams] == [8]
        stage.is_on(guest, "two")
        stage.down(vm, guest)


def dstate(stage: Stage) -> None:
    """A writer to a file system that is suspended sleeps where no signal and no freezer reaches it."""
    with stage.booted() as (vm, guest):
        stage.new(guest)
        stage.check(guest, "fsfreeze --freeze /home && (setsid sh -c 'echo x > /home/written' "
                           "</dev/null >/dev/null 2>&1 & echo $! > /run/writer) && "
                           "until grep -q '^State:.D' /proc/$(cat /run/writer)/status; do sleep 0.1; done")
        writer = stage.check(guest, "cat /run/writer")
        done = stage.upgrade(guest)
        assert done.code == REFUSED and "did not freeze" in done.text and writer in done.text, \
            f"{done.code} {done.text}"
        stage.is_on(guest, "one")
        stage.check(guest, "fsfreeze --unfreeze /home && until [ -s /home/written ]; do sleep 0.1; done")
        stage.commit(guest)
        stage.is_on(guest, "two")
        stage.down(vm, guest)


def oom(stage: Stage) -> None:
    with stage.booted() as (vm, guest):
        guest.run("initctl start hog.service", COMMAND * stage.slowness)
        guest.wait_until("dmesg | grep -q 'Out of memory: Killed process .*(tail)'",
                         COMMAND * 3 * stage.slowness, "the kernel has killed the hog")
        guest.wait_until("initctl status hog.service | grep -q failed", COMMAND * stage.slowness,
                         "PID 1 knows of it")
        stage.is_on(guest, "one")
        stage.new(guest)
        if stage.cell.refusal:
            _refused(stage, guest, stage.cell.refusal)
        else:
            stage.commit(guest)
            stage.is_on(guest, "two")
        stage.down(vm, guest)


# Until not one block more has a place in it. What ext4 has set aside for the metadata of what it has yet to
# write it gives back when that is written, if it was too much: after a first round there may be some left.
FILL = ("until cat /dev/zero >> {0}/filler 2>/dev/null; sync; "
        "! dd if=/dev/zero bs=4096 count=1 >> {0}/more 2>/dev/null; do :; done")


def full(stage: Stage) -> None:
    """The commit hook cannot write: told, and undone; the rest of it needs no disk."""
    with stage.booted() as (vm, guest):
        stage.new(guest)
        stage.check(guest, FILL.format("/var"))
        done = stage.upgrade(guest)
        assert done.code == ROLLED_BACK and "default" in done.text, f"{done.code} {done.text}"
        stage.is_on(guest, "one")
        stage.check(guest, "rm /var/filler; rm -f /var/more /var/default.new")
        stage.check(guest, FILL.format("/run"))
        done = stage.upgrade(guest)
        assert done.code in (0, REFUSED, ROLLED_BACK), f"{done.code} {done.text}"
        assert done.code == 0 or "No space left" in done.text, done.text
        stage.check(guest, "rm -f /run/filler /run/more")
        if done.code != 0:
            stage.is_on(guest, "one")
            stage.commit(guest)
        stage.is_on(guest, "two")
        stage.down(vm, guest)


def processes(stage: Stage) -> None:
    """Every one of them is moved."""
    with stage.booted() as (vm, guest):
        stage.new(guest)
        script = (f"cd {PLACE}; n=0; while [ $n -lt {PROCESSES} ]; do sleep 100000 </dev/null "
                  ">/dev/null 2>&1 & n=$((n+1)); done; echo $(ls -d /proc/[0-9]* | wc -l)")
        assert int(guest.check(script, COMMAND * 10 * stage.slowness)) > PROCESSES
        stage.commit(guest)
        stage.is_on(guest, "two")
        moved = guest.check("n=0; for p in $(pidof sleep); do [ /proc/$p/cwd -ef "
                            f"{PLACE} ] && n=$((n+1)); done; echo $n", COMMAND * 10 * stage.slowness)
        assert int(moved) == PROCESSES, f"{moved} of {PROCESSES} are on the new image"
        stage.down(vm, guest)


def hundred(stage: Stage) -> None:
    """Nothing adds up."""
    from qemu.marathon import marathon_alone
    with stage.booted() as (vm, guest):
        disks = stage.check(guest, f"{DISK} one; {DISK} two").split()
        marathon_alone(guest, UPGRADES, disks)
        stage.is_on(guest, "one")
        stage.down(vm, guest)


# Linux 6.18 for arm64 hangs while it copies the next kernel to its place, if a page there was ever made read-only,
# as code of modules is (mended upstream by c25c4aa3f79a, "arm64: mm: Add PTE_DIRTY back to PAGE_KERNEL* to fix
# kexec/hibernation"): no page is.
KEXEC_NEEDS = {("arm64", "6.18"): "rodata=off"}

LOAD = """set -e
mkdir -p /run/boot
mount -o ro $({disk} boot) /run/boot
/{lab}/kexecload /run/boot/vmlinuz /run/boot/initrd "$(cat /proc/cmdline) matrix.second"
umount /run/boot
cat /proc/sys/kernel/random/boot_id"""


def kexec(stage: Stage) -> None:
    """The firmware would end the machine: what comes up after that has come by kexec."""
    needed = KEXEC_NEEDS.get((stage.cell.architecture, stage.cell.kernel))
    with stage.boot(needed) if needed else stage.booted() as (vm, guest):
        before = stage.check(guest, LOAD.format(disk=DISK, lab=LAB)).splitlines()[-1]
        hellos = guest.hellos
        guest.send("initctl reboot")
        guest.wait_hello(hellos + 1, (BOOT + DOWN) * stage.slowness)
        stage.services_run(guest)
        stage.is_on(guest, "one")
        after = stage.check(guest, "grep -q matrix.second /proc/cmdline && "
                                   "! dmesg | grep -i 'recovery complete\\|recovering journal' && "
                                   "cat /proc/sys/kernel/random/boot_id")
        assert after != before, "it has not booted"
        stage.down(vm, guest)


# The PC's, where its kernel has a driver for it; else the kernel's own.
ARM_WATCHDOG = "modprobe i6300esb 2>/dev/null; [ -c /dev/watchdog ] || modprobe softdog; [ -c /dev/watchdog ]"
IS_ARMED = "ls -l /proc/1/fd | grep -q /dev/watchdog"
# A PID 1 that does nothing at all.
HANG = """mkdir /sys/fs/cgroup/hung && echo 1 > /sys/fs/cgroup/hung/cgroup.freeze &&
echo 1 > /sys/fs/cgroup/hung/cgroup.procs"""


def watchdog(stage: Stage) -> None:
    with stage.booted() as (vm, guest):
        _arm(stage, guest)
        stage.new(guest)
        stage.commit(guest)
        stage.is_on(guest, "two")
        stage.check(guest, IS_ARMED)
        # For longer than its time: the one thing that shows that it is pinged.
        guest.check(f"sleep {2 * WATCHDOG_SECONDS}", COMMAND * stage.slowness)
        stage.is_on(guest, "two")
        guest.send(HANG)
        ended = vm.wait_off(4 * WATCHDOG_SECONDS * stage.slowness)
        assert ended == "guest-reset", f"ended by {ended}, not by the watchdog"
    with stage.machine() as vm:
        guest = stage.up(vm)
        _arm(stage, guest)
        stage.down(vm, guest)


def _arm(stage: Stage, guest: Guest) -> None:
    stage.check(guest, ARM_WATCHDOG)
    guest.wait_until(IS_ARMED, COMMAND * stage.slowness, "PID 1 has opened the watchdog")


PLAYS: dict[str, Play] = {
    "boot": boot,
    "upgrade": upgrade,
    "rollback": rollback,
    "single": single,
    "rescue": rescue,
    "emergency": emergency,
    "load": load,
    "library": functools.partial(spoilt_init, how="swap", word="exited with code 127"),
    "killed": functools.partial(spoilt_init, how="segv", word="was killed by SIGSEGV"),
    "dstate": dstate,
    "oom": oom,
    "full": full,
    "processes": processes,
    "hundred": hundred,
    "kexec": kexec,
    "watchdog": watchdog,
    **{f"cut-{phase}": functools.partial(cut.cut, phase=phase) for phase in CUTS},
}
