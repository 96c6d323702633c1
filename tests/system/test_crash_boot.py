# SPDX-License-Identifier: MIT
"""PID 1 crashes while it boots, or while it goes down: the next life goes on with just that."""
import os
import pathlib
import signal

import pytest
from helpers import FOREVER, answer, request, wait_file
from machine import Machine, wait_until
from seam import COUNT, CRASH, Seam

# At a tenth as many calls of each; 400: make crashes
TIMES = int(os.environ.get("MOLT_TEST_CRASHES", "100")) // 10
pytestmark = pytest.mark.timeout(120 + 5 * TIMES)
POWEROFF, REBOOT = 128 + signal.SIGINT, 128 + signal.SIGHUP
STARTED = "/bin/sh -c 'echo x >>/run/share/{0}; exec sleep 1000'"
STOPPED = "/bin/sh -c 'echo {0} >>/run/share/stopped'"


def make(tmp_path, seam=True, images=("one",), **options):
    """Two services, the second one after the first, and a mount of /etc/fstab."""
    machine = Machine(tmp_path, images=images, **options)
    for image in machine.images.values():
        image.conf(services=["b.service"], Manager={"CrashLoopSec": "0", "ShutdownTimeoutSec": "5s"})
        image.write("etc/fstab", "tmpfs /srv tmpfs size=1m\n")
        image.service("a", f"[Service]\nExecStart={STARTED.format('a')}\nExecStop={STOPPED.format('a')}\n")
        image.service("b", "[Unit]\nRequires=a.service\nAfter=a.service\n"
                           f"[Service]\nExecStart={STARTED.format('b')}\nExecStop={STOPPED.format('b')}\n")
    machine.seam = Seam(machine) if seam else None
    return machine


def is_up(machine):
    try:
        machine.wait_state("a")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machine.report()}") from error
    machine.wait_state("b")
    mounts = pathlib.Path(f"/proc/{machine.pid}/mounts").read_text()
    assert mounts.count(" /srv ") == 1, machine.report()
    for name in ("a", "b"):
        assert len(machine.service_pids(name)) == 1, machine.report()
        wait_until(lambda n=name: (machine.share / n).exists(), what="its word")
        # What was only just begun is begun anew: it may have run by then, and the note of it been lost.
        anew = f"{name}.service: a start that was only just begun is begun anew" in machine.log()
        assert (machine.share / name).read_text() in ("x\n", "x\nx\n" if anew else "x\n"), machine.report()
    assert machine.json("status")["system"]["state"] == "running"


def calls_of_a_boot(tmp_path):
    with make(tmp_path) as machine:
        machine.seam.arm(COUNT)
        machine.start(wait=False)
        wait_file(machine.share / "b")
        return machine.seam.page.count


def test_boot_goes_on(tmp_path):
    """A real fault at calls that are spread evenly over the boot."""
    total, hits = calls_of_a_boot(tmp_path), 0
    for n in range(TIMES):
        nth = 1 + n * total // TIMES
        with make(tmp_path) as machine:
            machine.seam.arm(CRASH, nth, signal.SIGSEGV)
            machine.start(wait=False)
            try:
                wait_until(machine.is_up, 15, "the boot")
                wait_file(machine.share / "b")
                machine.seam.disarm()
                is_up(machine)
            except AssertionError as error:
                raise AssertionError(f"call {nth} of {total}: {error}\n{machine.report()}") from error
            hits += machine.seam.hit
            assert not machine.seam.hit or "PID 1 crashed: SIGSEGV" in machine.log(), machine.report()
    assert hits >= TIMES // 2, (hits, total)


def with_carried_files(tmp_path):
    """The same on a read-only root, with files mounted over those of it."""
    machine = make(tmp_path, images=("one", "two"))
    for image in machine.images.values():
        image.write("etc/machine-id", "")
        image.write("etc/hostname", "of-the-image\n")
    image = machine.images["one"]
    store = machine.share / "store/carry/etc"
    store.mkdir(parents=True)
    for name in ("machine-id", "hostname"):
        (store / name).write_text("carried\n")
    image.write("etc/fstab", "tmpfs /srv tmpfs size=1m\n/run/share/store /mnt none bind\n")
    image.write("etc/molt/init.conf.d/carry.conf",
                "[Upgrade]\nCarry=/etc/machine-id /etc/hostname\nCarryDirectory=/mnt/carry\n")
    return machine


def test_boot_with_carried_files_goes_on(tmp_path):
    """Each is mounted once, is known to be carried, and says what it said; the name of the host is one of them."""
    with with_carried_files(tmp_path) as machine:
        machine.seam.arm(COUNT)
        machine.start(wait=False)
        wait_file(machine.share / "b")
        calls = machine.seam.calls()
        # From the fork of who mounts on: what is before is the same in every boot.
        first = max(n for n, call in enumerate(calls) if call.name == "memfd_create")
        total = len(calls)
    hits = 0
    for n in range(TIMES):
        nth = 1 + first + n * (total - first) // TIMES
        with with_carried_files(tmp_path) as machine:
            machine.seam.arm(CRASH, nth, signal.SIGSEGV)
            machine.start(wait=False)
            try:
                wait_until(machine.is_up, 15, "the boot")
                wait_file(machine.share / "b")
                machine.seam.disarm()
                is_up(machine)
                mounts = pathlib.Path(f"/proc/{machine.pid}/mounts").read_text()
                for name in ("machine-id", "hostname"):
                    assert machine.run("cat", f"/etc/{name}").stdout == "carried\n"
                    assert mounts.count(f" /etc/{name} ") == 1
                assert machine.run("hostname").stdout == "carried\n"
                plan = {m["path"]: m["action"] for m in machine.json("plan", "/run/images/two")["mounts"]}
                assert plan["/etc/machine-id"] == plan["/etc/hostname"] == "leave", plan
            except AssertionError as error:
                raise AssertionError(f"call {nth} of {total}: {error}\n{machine.report()}") from error
            hits += machine.seam.hit
    assert hits >= TIMES // 2, (hits, total)


def test_arguments_outlive_a_boot_that_has_only_begun(tmp_path):
    """Before anything is written down the boot begins again, as it was asked to: here, with a shell."""
    with make(tmp_path, arguments=("single", "molt.debug")) as machine:
        rescue(machine)
        machine.seam.arm(CRASH, 8, signal.SIGSEGV)
        machine.start(wait=False)
        try:
            wait_file(machine.share / "shell")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{machine.report()}") from error
        assert machine.seam.hit
        leave_shell(machine)
        is_up(machine)


def rescue(machine):
    image = machine.images["one"]
    image.write("usr/sbin/rescue", "#!/bin/sh\necho up >>/run/share/shell\nread x </run/share/go\n", 0o755)
    image.write("etc/molt/init.conf.d/rescue.conf", "[Boot]\nRescueShell=/usr/sbin/rescue\nConsole=/run/share/console\n")
    (machine.share / "console").write_text("")
    os.mkfifo(machine.share / "go")


def leave_shell(machine):
    (machine.share / "go").write_text("exit\n")


def crash(machine):
    before = machine.log().count("PID 1 crashed")
    os.kill(machine.pid, signal.SIGSEGV)
    wait_until(lambda: machine.log().count("PID 1 crashed") > before, what="the next life")
    assert answer(request(machine, "version"))[0] == "ok"


@pytest.mark.parametrize("why", ["single", "emergency", "repair"])
def test_shell_is_waited_for(tmp_path, why):
    with make(tmp_path, seam=False, arguments=("molt.debug", why)) as machine:
        rescue(machine)
        if why == "repair":
            machine.images["one"].write("etc/fstab", "/dev/no-such-device /mnt ext4 x-systemd.device-timeout=50ms\n"
                                         "tmpfs /srv tmpfs size=1m\n")
        machine.start()
        wait_file(machine.share / "shell")
        for _ in range(3):
            crash(machine)
        assert machine.json("status")["system"]["state"] == "booting"
        leave_shell(machine)
        is_up(machine)
        assert (machine.share / "shell").read_text() == "up\n", "one shell, not several"


def test_mounter_is_waited_for(tmp_path):
    """It hangs in a mount helper meanwhile, and is no second one's."""
    with make(tmp_path, seam=False) as machine:
        image = machine.images["one"]
        os.mkfifo(machine.share / "go")
        image.write("usr/sbin/mount.slow", "#!/bin/sh\necho mounted >>/run/share/mounted\nread x </run/share/go\n"
                                           "exec mount -i -t tmpfs tmpfs \"$2\"\n", 0o755)
        image.write("etc/fstab", "none /srv slow defaults\n")
        machine.start(wait=False)
        wait_file(machine.share / "mounted")
        for _ in range(3):
            crash(machine)
        leave_shell(machine)
        is_up(machine)
        assert (machine.share / "mounted").read_text() == "mounted\n"


def go_down(machine, verb="reboot"):
    """Asks, and returns what the answer is: None if PID 1 ends before."""
    try:
        return answer(request(machine, verb))[0]
    except (AssertionError, OSError):
        return None


def not_begun(machine):
    try:
        return answer(request(machine, "status"))[0] == "ok" and machine.json("status")["system"]["state"] == "running"
    except (AssertionError, OSError):
        return False


def calls_of_a_shutdown(tmp_path):
    with make(tmp_path) as machine:
        machine.start()
        is_up(machine)
        machine.seam.arm(COUNT)
        go_down(machine)
        assert machine.process.wait(20) == REBOOT
        return machine.seam.page.count


def test_shutdown_goes_on(tmp_path):
    """A real fault at calls that are spread evenly over it: it ends in the way that was asked for."""
    total, told = calls_of_a_shutdown(tmp_path), []
    for n in range(TIMES):
        nth = 1 + n * total // TIMES
        with make(tmp_path) as machine:
            machine.start()
            is_up(machine)
            machine.seam.arm(CRASH, nth, signal.SIGSEGV)
            result = go_down(machine)
            told.append(result)
            # In the turn that took the request, or before it was read: it was not begun, and the client knows.
            if result == "failed" or (result is None and not_begun(machine)):
                assert not_begun(machine)
                machine.seam.disarm()
                assert go_down(machine) == "ok"
            try:
                assert machine.process.wait(20) == REBOOT
            except Exception as error:
                raise AssertionError(f"call {nth} of {total}: {error}\n{machine.report()}") from error
            assert list(dict.fromkeys((machine.share / "stopped").read_text().split())) == ["b", "a"], nth
    assert told.count("ok") >= TIMES // 2, (told, total)


@pytest.mark.parametrize("verb, code", [("poweroff", POWEROFF), ("reboot", REBOOT)])
def test_shutdown_that_waits_for_a_service(tmp_path, verb, code):
    """Who is to stop, in which order, and what comes then: it is known after each of three crashes."""
    with make(tmp_path, seam=False) as machine:
        os.mkfifo(machine.share / "go")
        machine.images["one"].service("b", "[Unit]\nRequires=a.service\nAfter=a.service\n"
                                           f"[Service]\nExecStart={STARTED.format('b')}\n"
                                           "ExecStop=/bin/sh -c 'read x </run/share/go; echo b >>/run/share/stopped'\n")
        machine.start()
        is_up(machine)
        assert go_down(machine, verb) == "ok"
        machine.wait_state("b", "stopping")
        for _ in range(3):
            crash(machine)
        assert machine.json("status")["system"]["state"] == "stopping"
        assert machine.initctl("start", "a", check=False).returncode == 5
        assert machine.unit("a")["state"] == "running"
        leave_shell(machine)
        assert machine.process.wait(20) == code
        assert (machine.share / "stopped").read_text().split() == ["b", "a"]


def test_deadline_of_the_shutdown_holds(tmp_path):
    """It is not begun anew by a crash, and what does not end is killed at last."""
    with make(tmp_path, seam=False) as machine:
        image = machine.images["one"]
        image.conf(services=["b.service"], Manager={"CrashLoopSec": "0", "ShutdownTimeoutSec": "1s"})
        image.service("b", f"[Service]\nExecStart={FOREVER}\nTimeoutStopSec=infinity\nExecStop=/bin/sleep 1000\n")
        machine.start()
        machine.wait_state("b")
        assert go_down(machine, "poweroff") == "ok"
        machine.wait_state("b", "stopping")
        for _ in range(3):
            crash(machine)
        assert machine.process.wait(20) == POWEROFF


def test_crash_loop_while_it_goes_down_ends_it(tmp_path):
    """Nobody waits at the console for a machine that is to be off."""
    with make(tmp_path, seam=False) as machine:
        image = machine.images["one"]
        image.conf(services=["b.service"])
        image.service("b", f"[Service]\nExecStart={FOREVER}\nTimeoutStopSec=infinity\nExecStop=/bin/sleep 1000\n")
        machine.start()
        machine.wait_state("b")
        assert go_down(machine, "reboot") == "ok"
        for _ in range(2):
            crash(machine)
        os.kill(machine.pid, signal.SIGSEGV)
        assert machine.process.wait(20) == REBOOT
