# SPDX-License-Identifier: MIT
"""What a stock Debian has to show under molt: its daemons at work, a login that an upgrade does not
break, packages that are installed, and a clean end."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from qemu import deps
from qemu.guest import Guest
from qemu.machine import Machine
from qemu.progress import say, step
from qemu.upgrade import document, units, upgrade

SSH = 22
SECOND_VERSION = "13.molt"
BOOT_TIMEOUT = 300.0  # two hundred processes of udev's on an emulated processor
UPGRADE_TIMEOUT = 180.0
APT_TIMEOUT = 300.0
WORK_TIMEOUT = 90.0  # a minute of it is cron's

# How each daemon shows that it works, not only that it runs.
WORKING = {
    "networking.service": "ip -4 addr show dev eth0 | grep -q 10.0.2.15",
    "ssh.service": "exec 3<>/dev/tcp/127.0.0.1/22; read -r line <&3; [[ $line == SSH-2.0-* ]]",
    "nginx.service": "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; "
                     "grep -q 'Welcome to nginx' <&3",
    "dbus.service": "dbus-send --system --print-reply --dest=org.freedesktop.DBus / "
                    "org.freedesktop.DBus.GetId | grep -q string",
    "systemd-journald.service": "logger -t stock hello; journalctl --sync; journalctl -t stock | grep -q hello",
    "systemd-timesyncd.service": "[ \"$(ps -o user= -C systemd-timesyncd)\" = systemd-timesync ]",
    "systemd-udevd.service": "udevadm control --ping && udevadm info /dev/nvme0n1 | grep -q ID_FS_TYPE",
    "serial-getty@ttyS0.service": "pgrep -x agetty || pgrep -x login",
    "cron.service": "test -s /run/cron-was-here",  # last: it is a minute until it has something to do
}


@dataclass(frozen=True)
class Host:
    """What this side of the wire needs."""

    key: Path
    room: Path
    log: Path
    slowness: float = 1.0  # by which every timeout is stretched


def tell(vm: Machine, host: Host, whole: bool) -> None:
    """`whole`: an upgrade and packages as well. Raises AssertionError or MachineError with what was not as
    it must be."""
    guest = Guest(vm)
    guest.wait_booted(BOOT_TIMEOUT * host.slowness)
    try:
        _daemons_work(guest, host)
        with Login(vm, host) as login:
            login.say("before")
            if whole:
                _upgrade(guest, login, vm, host)
        if whole:
            _packages(guest, host)
    finally:
        if vm.running():
            said = guest.run("tail -n 10000 /run/molt/init.log /var/log/molt/*.log").output
            (host.log / "logs").write_text(said)
    with step("everything goes down"):
        guest.send("/sbin/poweroff")
        reason = vm.wait_off(120 * host.slowness)
    assert reason == "guest-shutdown", f"the machine went off by {reason}"


def _daemons_work(guest: Guest, host: Host) -> None:
    guest.check('test "$(readlink /proc/1/exe)" = /usr/sbin/molt')
    guest.check("grep -q 'in the initramfs, looking for the root' /run/molt/init.log")
    guest.wait_until("! initctl status --json | grep -qE "
                     "'\"state\":\"(waiting|checking|start-pre|starting|start-post)\"'",
                     BOOT_TIMEOUT * host.slowness, "not all services are up")
    failed = [name for name, unit in units(document(guest, "initctl status --json")).items()
              if unit["state"] in ("failed", "backoff")]
    assert not failed, f"failed: {failed}\n" + guest.run("tail -n 100 /run/molt/init.log").output
    for service, works in WORKING.items():
        with step(f"{service} works"):
            guest.check(f"initctl status {service}")
            guest.wait_until(f"bash -c {_quoted(works)}", WORK_TIMEOUT * host.slowness, f"{service} does not work")


def _upgrade(guest: Guest, login: Login, vm: Machine, host: Host) -> None:
    """The machine changes its root below a person who is logged in."""
    guest.check("mkdir -p /new && mount /dev/nvme0n2 /new")
    with step("an upgrade to another root"):
        done = upgrade(guest, "/new", UPGRADE_TIMEOUT * host.slowness)
    assert (done.code, done.text) == (0, "committed"), \
        f"{done}\n" + guest.run("tail -n 100 /run/molt/init.log").output
    guest.check(f"grep -q {SECOND_VERSION} /etc/os-release")
    login.say("after")
    assert login.command("grep -c molt /usr/lib/os-release") == "1"
    with step("a new login"):
        with Login(vm, host) as another:
            another.say("new")
    for service in ("ssh", "nginx", "cron", "systemd-journald", "systemd-timesyncd", "systemd-udevd"):
        guest.check(f'test "$(stat -Lc %d /proc/$(initctl status --json {service} | '
                    f"sed -n 's/.*\"main_pid\":\\([0-9]*\\).*/\\1/p')/exe)\" = \"$(stat -c %d /)\"")
    for service, works in WORKING.items():
        guest.wait_until(f"bash -c {_quoted(works)}", WORK_TIMEOUT * host.slowness,
                         f"{service} does not work after the upgrade")


def _packages(guest: Guest, host: Host) -> None:
    """Maintainer scripts of packages find what they need, and molt has what they start."""
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -y -q"
    with step("apt installs a daemon with an init script, and one with a unit"):
        say(guest.check(f"{apt} --no-install-recommends install /debs/*.deb",
                        APT_TIMEOUT * host.slowness))
    guest.check("test -z \"$(dpkg --audit)\"")
    for service in ("atd", "rsyslog"):
        guest.check(f"initctl status {service}")
        guest.check(f"grep -q {service}.service /etc/molt/init.conf.d/10-debian.conf")
        guest.check(f'grep -q "/{service}.service/" /proc/$(pgrep -x {_program(service)})/cgroup')
    guest.check("echo 'touch /run/at-was-here' | at now")
    guest.wait_until("test -e /run/at-was-here", WORK_TIMEOUT * host.slowness, "at does not work")
    guest.check("logger -t stock to-rsyslog")
    guest.wait_until("grep -q to-rsyslog /var/log/syslog", what="rsyslog does not work")
    with step("init scripts, invoke-rc.d and service(8) ask molt"):
        before = guest.check("pgrep -x atd")
        guest.check("service atd restart && invoke-rc.d atd status")
        assert guest.check("pgrep -x atd") != before
        guest.check("grep -q '/atd.service/' /proc/$(pgrep -x atd)/cgroup")
    said = guest.run("systemctl is-system-running")
    assert (said.code, said.output.strip()) == (1, "offline"), said
    with step("apt removes it"):
        guest.check(f"{apt} remove at", APT_TIMEOUT * host.slowness)
    guest.check("! pgrep -x atd && ! grep -q atd /etc/molt/init.conf.d/10-debian.conf")


def _program(service: str) -> str:
    return {"rsyslog": "rsyslogd"}.get(service, service)


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


class Login:
    """A shell over ssh, in which a line can be said and is heard back."""

    def __init__(self, vm: Machine, host: Host) -> None:
        self.vm = vm
        self._slowness = host.slowness
        [port] = vm.ports[SSH]
        command = [deps.tool("ssh"), "-i", str(host.key), "-p", str(port), "-o", "BatchMode=yes",
                   "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={host.room}/hosts",
                   "-o", "ConnectTimeout=60", "-F", "none", "root@127.0.0.1", "/bin/sh"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, bufsize=1)

    def __enter__(self) -> Login:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def command(self, text: str) -> str:
        """The one line that a command prints."""
        assert self._process.stdin and self._process.stdout
        alarm = threading.Timer(90 * self._slowness, self._process.kill)
        alarm.start()
        try:
            self._process.stdin.write(text + "\n")
            line = self._process.stdout.readline()
            while "Warning: Permanently added" in line:
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise self.vm.failure("the ssh session ended")
        return line.strip()

    def say(self, word: str) -> None:
        heard = self.command(f"echo {word}")
        if heard != word:
            raise self.vm.failure(f"ssh said {heard!r} instead of {word!r}")
