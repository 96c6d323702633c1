# SPDX-License-Identifier: MIT
"""molt as PID 1 of an arm64 machine: an upgrade with processes that hold what they can of the old
image, one that is rolled back, new inits that fail, a power-off. From another architecture, so in QEMU's translator.

    python3 -m qemu.arm64 --build build/arm64 [--cpu max,pauth-impdef=on] [--suite trixie]

The system is only the agent, a service that is renewed, and the holders (tests/tools/holder/), each
of which checks itself.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qemu import child, deps, foreign, images, kernel
from qemu.board import BOARDS
from qemu.guest import Guest
from qemu.lab import CACHE, LAB, REPOSITORY, write_layer
from qemu.machine import Config, Machine
from qemu.packages import Suite
from qemu.progress import step
from qemu.upgrade import document, upgrade

ARCHITECTURE = "arm64"
ROLLED_BACK = 4
PLACE = "/opt/place"
TOOLS = ("agent", "badinit", "holder")
# Not "waiter": on arm64 a call that the kernel ends with EINTR stays ended, README. Nor those that are
# never at rest, in a machine that is emulated.
SUBJECTS = ("cwd", "fds", "fsthread", "sleeper", "nobody", "seccomp", "stopped", "jail")

BOOT_TIMEOUT = 180.0
UPGRADE_TIMEOUT = 300.0
OFF_TIMEOUT = 120.0
# Everything in the guest is emulated, on a machine that may have other things to do.
FILES = {
    "etc/molt/init.conf": """[Boot]
Services=agent.service probe.service
[Upgrade]
FreezeTimeoutSec=20
BlackoutTimeoutSec=60
CheckTimeoutSec=120
ExecTimeoutSec=120
""",
    "etc/molt/system/agent.service": """[Unit]
Description=The host's hand in this guest, over the second serial line
[Service]
ExecStart=/usr/libexec/molt-lab/agent /dev/{agent}
Restart=always
[Upgrade]
Policy=keep
""",
    "etc/molt/system/probe.service": """[Unit]
Description=Gets onto the new image, if that one lets it
[Service]
Type=forking
PIDFile=/run/probe.pid
ExecStart=/usr/libexec/molt-lab/probe
[Upgrade]
Policy=restart
ReadyTimeoutSec=120
""",
    "etc/fstab": """/dev/nvme0n4 /var  ext4  rw,nosuid,nodev  0 0
/dev/nvme0n5 /home ext4  rw,nosuid,nodev  0 0
tmpfs        /tmp  tmpfs rw,nosuid,nodev,mode=1777,size=64m 0 0
""",
    **{f"{PLACE[1:]}/file-{n}": "{version}\n" for n in range(20)},
}

# A new init that fails once it is PID 1: the old one is brought back by calls that are run in it.
BAD_INIT = f"cp /{LAB}/badinit /new/usr/sbin/molt && echo yes segv > /new/etc/badinit && sync"

START_HOLDER = """set -e
mkdir -p /run/h && cd /run/h
[ -x holder ] || cp /usr/libexec/molt-lab/holder holder
mkfifo {0}.in
setsid sleep 100000 > {0}.in < /dev/null 2>&1 &
echo $! > {0}.keeper
setsid ./holder {0} """ + PLACE + """ < {0}.in > {0}.out 2>&1 &
echo $! > {0}.pid
until grep -qs . {0}.out; do sleep 0.1; done
cat {0}.out
"""


@dataclass(frozen=True)
class Outcome:
    """What is worth telling of a run."""

    features: str  # of the processor, as /proc/cpuinfo has them
    blackouts: list[float]  # milliseconds


def run(build: Path, log: Path, cpu: str = "", suite_name: str = "bookworm") -> Outcome:
    """Raises AssertionError or MachineError for the first thing that is not as it must be."""
    deps.ensure(ARCHITECTURE)
    log.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="molt-arm64-") as work:
        at = Path(work)
        suite = Suite(suite_name, CACHE / "apt" / f"{suite_name}-{ARCHITECTURE}", ARCHITECTURE)
        suite.refresh()
        linux = kernel.get(suite, CACHE / ARCHITECTURE)
        base = _base(at, build, linux, foreign.busybox(suite, CACHE))
        one, two, bad = (_image(at, base, version) for version in ("one", "two", "bad"))
        disks = [one.root, two.root, bad.root, one.var, one.home]
        config = Config(linux.image, disks, architecture=ARCHITECTURE, cpu=cpu)
        with Machine(config, log / "console.log") as vm:
            return _play(vm)


def _base(at: Path, build: Path, linux: kernel.Kernel, box: Path) -> Path:
    """A tar of what the images have in common."""
    root = at / "root"
    foreign.lay_out(root, ARCHITECTURE, box)
    child.check(["make", "--no-print-directory", "install", f"DESTDIR={root}", "PREFIX=/usr",
                 f"ARCH={ARCHITECTURE}", f"BUILD={build.resolve()}"], cwd=REPOSITORY)
    (root / "sbin/init").symlink_to("../usr/sbin/molt")
    (root / LAB).mkdir(parents=True)
    programs = [root / "usr/sbin/molt", root / "usr/bin/initctl"]
    for tool in TOOLS:
        programs.append(shutil.copy2(build / "tools" / tool, root / LAB / tool))
    foreign.add_libraries(root, ARCHITECTURE, programs)
    modules = root / "lib/modules" / linux.release
    modules.mkdir(parents=True)
    tar = at / "base.tar"
    child.check(["tar", "-C", str(root), "--owner=0", "--group=0", "-cf", str(tar), "."])
    return tar


def _image(at: Path, base: Path, version: str) -> images.Image:
    """One that tells itself apart; the probe of the bad one fails."""
    board = BOARDS[ARCHITECTURE]
    files = {name: text.replace("{version}", version).replace("{agent}", board.agent)
             for name, text in FILES.items()}
    files["etc/os-release"] = f'PRETTY_NAME="{version}"\nVERSION_ID={version}\n'
    start = "exit 1" if version == "bad" else "sleep 100000 &\necho $! > /run/probe.pid"
    files[f"{LAB}/probe"] = f"#!/bin/sh\n{start}\n"
    return images.compose(base, at / version, [write_layer(at / f"{version}-files", files)],
                          size="96M")


def _play(vm: Machine) -> Outcome:
    guest = Guest(vm)
    guest.wait_booted(BOOT_TIMEOUT)
    guest.wait_until("initctl status probe.service | grep -q running", BOOT_TIMEOUT)
    features = guest.check("grep -m1 Features /proc/cpuinfo")
    for subject in SUBJECTS:
        said = guest.check(START_HOLDER.format(subject), BOOT_TIMEOUT)
        assert said == "ready", f"{subject}: {said}"
    blackouts = [_commit(guest, 2, "two"), _roll_back(guest, 3, "two")]
    _bad_init(guest, 3, "two")
    blackouts.append(_commit(guest, 1, "one"))
    for subject in SUBJECTS:
        said = guest.check(f"cd /run/h && kill $(cat {subject}.keeper) && "
                           f"until [ $(wc -l < {subject}.out) -ge 2 ]; do sleep 0.1; done; "
                           f"tail -n +2 {subject}.out", BOOT_TIMEOUT)
        assert said == "ok", f"{subject}: {said}"
    guest.send("initctl poweroff")
    reason = vm.wait_off(OFF_TIMEOUT)
    assert reason == "guest-shutdown", reason
    return Outcome(features, blackouts)


def _commit(guest: Guest, disk: int, version: str) -> float:
    guest.check(f"mount -o ro /dev/nvme0n{disk} /new")
    with step(f"upgrade to {version}"):
        done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
    assert (done.code, done.text) == (0, "committed"), f"{done.code} {done.text}"
    _look(guest, version)
    return done.blackout_ms or 0.0


def _roll_back(guest: Guest, disk: int, version: str) -> float:
    guest.check(f"mount -o ro /dev/nvme0n{disk} /new")
    with step("upgrade to what does not run"):
        done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
    assert done.code == ROLLED_BACK and done.text.startswith("rolled back: "), \
        f"{done.code} {done.text}"
    assert "probe.service" in done.text, done.text
    _look(guest, version)
    guest.check("umount /new")
    return done.blackout_ms or 0.0


def _bad_init(guest: Guest, disk: int, version: str) -> None:
    """On the disk of an image that is not needed as it is any more."""
    # To be written to it has to be let go by the upgrade before: by a child, in its own time.
    guest.check(f"until mount /dev/nvme0n{disk} /new 2> /dev/null; do sleep 0.2; done; {BAD_INIT}")
    with step("upgrade to an init that is killed"):
        done = upgrade(guest, "/new", UPGRADE_TIMEOUT)
    why = "rolled back: the new init was killed by SIGSEGV while it took over"
    assert (done.code, done.text) == (ROLLED_BACK, why), f"{done.code} {done.text}"
    _look(guest, version)
    guest.check("umount /new && ! grep -qx molt-guard /proc/[0-9]*/comm")


def _look(guest: Guest, version: str) -> None:
    """Who holds what of which image. What the jail sees is its own root: a directory of the image."""
    assert guest.check("cat /etc/os-release").startswith(f'PRETTY_NAME="{version}"')
    for subject in SUBJECTS:
        if subject in ("fds", "fsthread"):
            continue  # their first thread holds nothing there
        seen = guest.check(f"cat /proc/$(cat /run/h/{subject}.pid)/cwd/file-0")
        assert seen == version, f"{subject} is on {seen}, not {version}"
    running = document(guest, "initctl status probe.service --json")
    assert "running" in str(running), running


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=Path("build/arm64"))
    parser.add_argument("--cpu", default="")
    parser.add_argument("--suite", default="bookworm")
    arguments = parser.parse_args()
    child.exit_on_signals()
    print(run(arguments.build, arguments.build / "qemu-boot", arguments.cpu, arguments.suite))
    return 0


if __name__ == "__main__":
    sys.exit(main())
