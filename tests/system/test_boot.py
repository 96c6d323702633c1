# SPDX-License-Identifier: MIT
"""From nothing to running services: mounts, names, fstab, the rescue shell, options, configuration."""
import os
import pathlib
import signal

import pytest

from helpers import FOREVER, answer, down, request, wait_file, wait_log
from machine import Machine, wait_until

RESCUE = "#!/bin/sh\necho up >/run/share/shell\nread x </run/share/go\n"


@pytest.fixture
def rescued(machine):
    """Where the boot cannot go on, a shell that says so and waits to be told to exit."""
    image = machine.images["one"]
    image.write("usr/sbin/rescue", RESCUE, 0o755)
    image.service("a", f"[Service]\nExecStart={FOREVER}\n")
    image.write("etc/molt/init.conf.d/rescue.conf", "[Boot]\nServices=a.service\nRescueShell=/usr/sbin/rescue\n"
                "Console=/run/share/console\n")
    (machine.share / "console").write_text("")
    os.mkfifo(machine.share / "go")
    return machine


def mounts_of(machine):
    return pathlib.Path(f"/proc/{machine.pid}/mounts").read_text()


def leave_shell(machine):
    (machine.share / "go").write_text("exit\n")


def test_what_a_system_needs_is_there(machine):
    machine.start()
    mounts = mounts_of(machine)
    for target in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/sys/fs/cgroup"):
        assert f" {target} " in mounts, mounts
    assert machine.run("hostname").stdout.strip() == "molt-test"
    assert "UP" in machine.run("ip", "link", "show", "lo").stdout
    assert machine.json("status")["system"]["state"] == "running"
    # Nothing of init's own leaks into what it starts.
    assert not [fd for fd in os.listdir(f"/proc/{machine.pid}/fd") if int(fd) < 3 and
                os.readlink(f"/proc/{machine.pid}/fd/{fd}").startswith("socket:")]


def test_fstab(machine):
    (machine.images["one"].directory / "srv/deep").mkdir(parents=True)
    machine.images["one"].write("etc/fstab", "\n".join([
        "# a comment", "tmpfs /srv tmpfs size=1m,mode=0711 0 0", "no-line-at-all",
        "tmpfs /srv/below tmpfs size=1m,x-mount.mkdir 0 0", "tmpfs /opt tmpfs noauto 0 0",
        "/dev/no-such-device /mnt ext4 nofail,x-systemd.device-timeout=50ms 0 0",
        "/dev/no-such-swap none swap sw,x-systemd.device-timeout=50ms 0 0",
        "tmpfs /home tmpfs size=1m 0 0", "tmpfs /media tmpfs defaults,ro"]) + "\n")
    machine.start()
    wait_until(lambda: machine.json("status")["system"]["state"] == "running", what="the boot")
    mounts = mounts_of(machine)
    for target in ("/srv", "/srv/below", "/media"):
        assert f" {target} tmpfs" in mounts, machine.report()
    assert " /opt " not in mounts and " /mnt " not in mounts
    assert mounts.count(" /home ") == 1, "mounted already"
    assert oct(machine.path("/srv").stat().st_mode & 0o777) == "0o711"
    assert "/etc/fstab:3" in machine.log()
    assert "/dev/no-such-device" in machine.log()


def test_a_missing_device_ends_in_a_shell_and_the_boot_goes_on(rescued):
    rescued.images["one"].write("etc/fstab", "/dev/no-such-device /mnt ext4 x-systemd.device-timeout=50ms 0 0\n"
                                         "tmpfs /srv tmpfs defaults\n")
    rescued.start()
    wait_file(rescued.share / "shell")
    assert "mounting the local file systems of /etc/fstab failed" in (rescued.share / "console").read_text()
    assert rescued.json("status")["system"]["state"] == "booting"
    assert " /srv " in mounts_of(rescued), "what follows is mounted all the same"
    leave_shell(rescued)
    rescued.wait_state("a")


@pytest.mark.parametrize("option, mounted", [("single", True), ("emergency", False)])
def test_single_and_emergency(rescued, option, mounted):
    rescued.arguments = [option, "molt.debug"]
    rescued.images["one"].write("etc/fstab", "tmpfs /srv tmpfs defaults\n")
    rescued.start()
    wait_file(rescued.share / "shell")
    assert (" /srv " in mounts_of(rescued)) == mounted
    assert rescued.json("status")["services"] == []
    leave_shell(rescued)
    rescued.wait_state("a")
    assert " /srv " in mounts_of(rescued)


def test_a_real_shell_reads_the_console(machine):
    image = machine.images["one"]
    image.service("a", f"[Service]\nExecStart={FOREVER}\n")
    image.write("etc/molt/init.conf", "[Boot]\nServices=a.service\nConsole=/run/share/console\n")
    (machine.share / "console").write_text("#" * 2000 + "\nid -u >/run/share/who\ncat /proc/self/cgroup >>/run/share/who\n")
    machine.arguments = ["single"]
    machine.start()
    machine.wait_state("a")
    who = (machine.share / "who").read_text().split()
    assert who[0] == "0" and "0::/tree/rescue" in who


def test_shell_or_console_that_is_not_there_does_not_end_the_boot(rescued):
    rescued.arguments = ["single"]
    rescued.images["one"].write("etc/molt/init.conf.d/z.conf", "[Boot]\nRescueShell=/nowhere\nConsole=/nowhere\n")
    rescued.start()
    rescued.wait_state("a")


def test_no_exec_of_init_while_it_boots(rescued):
    """How far the boot has got would be lost, and it would never go on."""
    rescued.arguments = ["single", "molt.debug"]
    rescued.start()
    wait_file(rescued.share / "shell")
    assert rescued.initctl("reexec", check=False).returncode == 5
    assert rescued.initctl("upgrade", "/run/images/two", check=False).returncode == 5
    os.kill(rescued.pid, signal.SIGTERM)
    assert rescued.json("status")["system"]["state"] == "booting"
    leave_shell(rescued)
    rescued.wait_state("a")
    wait_log(rescued, "took up the state")
    assert rescued.unit("a")["state"] == "running"


def test_shutdown_out_of_the_shell(rescued):
    rescued.arguments = ["emergency"]
    rescued.start()
    wait_file(rescued.share / "shell")
    down(rescued)
    assert rescued.process.wait(30) == 128 + signal.SIGINT


def test_quiet_and_debug(tmp_path):
    for arguments, debug in (([], False), (["quiet"], False), (["molt.debug"], True), (["--", "---", "nonsense=1"], False)):
        with Machine(tmp_path, images=("one",), arguments=arguments) as machine:
            machine.images["one"].conf(services=["a.service"])
            machine.images["one"].service("a", f"[Service]\nExecStart={FOREVER}\n")
            machine.start()
            machine.wait_state("a")
            assert ("waiting -> starting" in machine.log()) == debug


def test_broken_configuration_is_told_and_the_defaults_hold(machine):
    machine.images["one"].write("etc/molt/init.conf", "[Manager]\nShutdownTimeoutSec=sometimes\n")
    machine.start()
    assert "init.conf:2" in machine.log()
    assert machine.json("status")["system"]["state"] == "running"


def test_sighup_reads_the_configuration_again(machine):
    """Broken: what was goes on. Then mended."""
    conf = machine.share / "init.conf"
    conf.write_text("[Manager]\nDefaultTimeoutStartSec=300ms\n")
    (machine.images["one"].directory / "etc/molt/init.conf").unlink()
    (machine.images["one"].directory / "etc/molt/init.conf").symlink_to("/run/share/init.conf")
    machine.images["one"].service("n", f"[Service]\nType=notify\nExecStart={FOREVER}\n")
    machine.start()
    assert "within 300 ms" in machine.initctl("start", "n", check=False).stdout
    conf.write_text("[Manager]\nDefaultTimeoutStartSec=never ever\n")
    os.kill(machine.pid, signal.SIGHUP)
    wait_log(machine, "what was configured before goes on")
    assert "within 300 ms" in machine.initctl("start", "n", check=False).stdout
    conf.write_text("[Manager]\nDefaultTimeoutStartSec=100ms\n")
    os.kill(machine.pid, signal.SIGHUP)
    wait_log(machine, "init.conf read again")
    assert "within 100 ms" in machine.initctl("start", "n", check=False).stdout


def test_reexec_keeps_services_and_those_who_wait(machine):
    """SIGTERM to PID 1; a start, a backoff and a PID file that are under way go on after it."""
    image = machine.images["one"]
    for name in ("slow", "pre"):
        os.mkfifo(machine.share / name)
    image.service("a", f"[Service]\nExecStart={FOREVER}\n")
    image.service("slow", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'read x </run/share/slow'\n")
    image.service("pid", "[Service]\nType=forking\nPIDFile=/run/d.pid\n"
                  "ExecStart=/bin/sh -c 'sleep 1000 & echo $$! >/run/late.pid; exit 0'\n")
    image.service("pre", "[Service]\nExecStartPre=/bin/sh -c 'read x </run/share/pre; exec /nowhere'\n"
                  f"ExecStart={FOREVER}\n")
    machine.start()
    machine.initctl("start", "a")
    main = machine.unit("a")["main_pid"]
    clients = {name: request(machine, "start", unit=f"{name}.service") for name in ("slow", "pid", "pre")}
    machine.wait_state("slow", "starting")
    machine.wait_state("pre", "start-pre")
    wait_until(lambda: machine.path("/run/late.pid").exists() and len(machine.service_pids("pid")) == 1,
               what="the daemon")
    for count in (1, 2):
        os.kill(machine.pid, signal.SIGTERM)
        wait_until(lambda: machine.log().count("took up the state") == count, what="the next life")
    assert machine.unit("a")["main_pid"] == main
    machine.path("/run/late.pid").rename(machine.path("/run/d.pid"))
    assert answer(clients["pid"])[0] == "ok", machine.report()
    for name in ("slow", "pre"):
        (machine.share / name).write_text("x\n")
    assert answer(clients["slow"])[0] == "ok", machine.report()
    assert answer(clients["pre"])[0] == "failed", machine.report()
