# SPDX-License-Identifier: MIT
"""Condition...= and Assert...=: what is started, what is not, and what follows from that. And which ends of a service
count as good, or bring it back."""
import os
import signal
import socket

import pytest
from daemons import FUSE, Daemon
from helpers import FOREVER, answer, request, service, start, state, stop, wait_log
from machine import wait_until
from outside import last_word

pytestmark = pytest.mark.timeout(60)
UNMET = "ConditionPathExists=/run/share/there"


@pytest.fixture
def booted(machine):
    return machine.start()


def runs(machine):
    """How often it was begun: each run leaves a line."""
    path = machine.share / "ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


NOTED = "/bin/sh -c 'echo >>/run/share/ran; {}'"


def test_unmet_is_no_failure(booted):
    """It stays down, and says why; nothing of it runs, nothing brings it back, whoever requires it is started."""
    service(booted, "a", "Type=oneshot", "RemainAfterExit=yes", "Restart=on-failure", "RestartSec=1ms",
            "ExecStartPre=" + NOTED.format("true"), "ExecStopPost=" + NOTED.format("true"),
            unit=(UNMET,), start=NOTED.format("true"))
    service(booted, "b", unit=("Requires=a.service", "After=a.service"))
    assert "not started: ConditionPathExists=/run/share/there is not met" in start(booted, "a")
    start(booted, "b")
    assert (state(booted, "a"), state(booted, "b")) == ("inactive", "running")
    assert booted.unit("a")["result"].endswith("there is not met") and booted.unit("a")["restarts"] == 0
    assert runs(booted) == 0 and booted.cgroups("a.service")[1:] == []
    (booted.share / "there").touch()
    assert "not met" not in start(booted, "a")
    assert state(booted, "a") == "exited" and runs(booted) == 2
    assert booted.unit("a")["result"] is None


def test_restart_always_does_not_try_for_ever(booted):
    service(booted, "a", "Restart=always", "RestartSec=1ms", unit=(UNMET,))
    start(booted, "a")
    assert state(booted, "a") == "inactive"
    # And what ends meanwhile is looked at before it is started again.
    (booted.share / "there").touch()
    service(booted, "a", "Restart=always", "RestartSec=1ms", unit=(UNMET,),
            start="/bin/sh -c 'rm /run/share/there; echo >>/run/share/ran'")
    start(booted, "a")
    booted.wait_state("a", "inactive")
    assert runs(booted) == 1


def test_assertion_is_a_failure(booted):
    service(booted, "a", "Restart=always", "RestartSec=1ms", unit=("AssertPathExists=!/run",))
    service(booted, "b", unit=("Requires=a.service", "After=a.service"))
    assert "not started: AssertPathExists=!/run is not met" in start(booted, "a", code=1)
    assert state(booted, "a") == "failed" and booted.unit("a")["restarts"] == 0
    start(booted, "b", code=1)
    assert state(booted, "b") == "failed"


def test_one_of_many_is_enough(booted):
    service(booted, "a", unit=("ConditionPathExists=|/run/share/there", "ConditionPathIsDirectory=|/run"))
    start(booted, "a")
    assert state(booted, "a") == "running"


def test_sockets_of_what_stays_down_are_closed(booted):
    service(booted, "a", unit=(UNMET,), sections="[Socket]\nListen=/run/a.sock\n")
    start(booted, "a")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(booted.path("/run/a.sock")))


def test_a_reexec_carries_it(booted):
    """What was found stays told, and a stop is one."""
    service(booted, "a", unit=(UNMET,))
    start(booted, "a")
    booted.initctl("reexec")
    assert booted.unit("a")["result"].endswith("there is not met") and state(booted, "a") == "inactive"
    assert "not started" in start(booted, "a")
    stop(booted, "a")


@pytest.mark.parametrize("life", ["reexec", "crash"])
def test_file_system_that_does_not_answer(machine, life):
    """It keeps nobody waiting but the service itself; PID 1's next life takes the look along, and a stop ends it."""
    machine.images["one"].write("data/.empty", "")
    machine.start()
    daemon = Daemon(machine, FUSE, "/data", "hang")
    service(machine, "a", unit=("ConditionPathExists=/data/hello",))
    service(machine, "b", unit=("Before=a.service",))
    client = request(machine, "start", unit="a.service")
    machine.wait_state("a", "checking")
    start(machine, "b")
    if life == "reexec":
        machine.initctl("reexec")
    else:
        os.kill(machine.pid, signal.SIGSEGV)
        wait_log(machine, "took up the state")
    assert state(machine, "a") == "checking" and state(machine, "b") == "running"
    stopper = request(machine, "stop", unit="a.service")
    machine.wait_state("a", "killing")
    assert daemon.end() == 1
    assert answer(stopper)[0] == answer(client)[0] == "ok"
    assert state(machine, "a") == "inactive"


def test_first_boot(machine):
    """Of a system that has no machine ID yet, until the next boot."""
    machine.images["one"].write("etc/machine-id", "")
    for name, value in (("first", "yes"), ("later", "no")):
        machine.images["one"].service(name, f"[Unit]\nConditionFirstBoot={value}\n[Service]\nExecStart={FOREVER}\n")
    machine.images["one"].conf(services=["first.service", "later.service"])
    machine.start()
    machine.wait_state("first")
    assert state(machine, "later") == "inactive" and machine.path("/run/molt/first-boot").exists()


def test_no_first_boot(machine):
    machine.images["one"].write("etc/machine-id", "00112233445566778899aabbccddeeff\n")
    machine.start()
    service(machine, "first", unit=("ConditionFirstBoot=yes",))
    assert "not met" in start(machine, "first")


def test_boot_with_one_that_is_not_met_is_good(machine):
    machine.images["one"].service("a", f"[Unit]\n{UNMET}\n[Service]\nExecStart={FOREVER}\n")
    machine.images["one"].conf(services=["a.service"])
    machine.images["one"].write("/etc/molt/boot-good.d/50", "#!/bin/sh\n", 0o755)
    machine.start()
    wait_log(machine, "the boot is good")


@pytest.mark.parametrize("met", [True, False])
def test_upgrade_to_an_image_that_has_another_condition(machine, met):
    """It is down there, which is as that image wants it."""
    machine.images["one"].service("a", f"[Service]\nExecStart={FOREVER}\n[Upgrade]\nPolicy=restart\n")
    machine.images["two"].service("a", f"[Unit]\nConditionPathExists=/etc/{'' if met else 'no-'}os-release\n"
                                       f"[Service]\nExecStart={FOREVER}\n[Upgrade]\nPolicy=restart\n")
    machine.start()
    start(machine, "a")
    machine.initctl("upgrade", "--no-auto-commit", "/run/images/two")
    assert state(machine, "a") == ("running" if met else "inactive")
    assert machine.initctl("rollback", check=False).returncode == 4
    machine.wait_state("a")


def test_upgrade_to_an_image_whose_assertion_fails(machine):
    for name, unit in (("one", ""), ("two", "AssertPathExists=/nowhere")):
        machine.images[name].service("a", f"[Unit]\n{unit}\n[Service]\nExecStart={FOREVER}\n[Upgrade]\nPolicy=restart\n")
    machine.start()
    start(machine, "a")
    code, told = machine.upgrade("two", check=False)
    assert code == 4 and "AssertPathExists=/nowhere is not met" in last_word(told), told
    machine.wait_state("a")


# Ends

@pytest.mark.parametrize("kind", ["simple", "oneshot"])
def test_success_exit_status(booted, kind):
    service(booted, "a", f"Type={kind}", "SuccessExitStatus=3 SIGKILL", start="/bin/sh -c 'exit 3'")
    start(booted, "a")
    booted.wait_state("a", "inactive")
    service(booted, "a", f"Type={kind}", "SuccessExitStatus=4", start="/bin/sh -c 'exit 3'")
    booted.initctl("start", "a", check=False)
    booted.wait_state("a", "failed")


def test_success_exit_status_of_commands(booted):
    """As systemd has it, of all commands; the next line of a oneshot follows."""
    service(booted, "a", "Type=oneshot", "SuccessExitStatus=DATAERR", "ExecStartPre=/bin/sh -c 'exit 65'",
            "ExecStart=" + NOTED.format("true"), start="/bin/sh -c 'exit 65'")
    start(booted, "a")
    assert state(booted, "a") == "inactive" and runs(booted) == 1


def test_restart_prevent_exit_status(booted):
    service(booted, "a", "Restart=always", "RestartSec=1ms", "RestartPreventExitStatus=255", "ExecStopPost=/bin/true",
            start=NOTED.format("test $(wc -l </run/share/ran) -lt 3 || exit 255"))
    start(booted, "a")
    booted.wait_state("a", "failed")
    assert runs(booted) == 3 and booted.unit("a")["restarts"] == 2


def test_restart_force_exit_status(booted):
    service(booted, "a", "RestartForceExitStatus=7", "RestartSec=1ms",
            start=NOTED.format("test $(wc -l </run/share/ran) -lt 3 && exit 7; exit 8"))
    start(booted, "a")
    booted.wait_state("a", "failed")
    assert runs(booted) == 3 and "exited with code 8" in booted.unit("a")["result"]


def test_the_code_is_known_over_a_reexec(booted):
    """While ExecStopPost= runs PID 1 is another one, and it is that code that decides."""
    service(booted, "a", "Restart=always", "RestartSec=1ms", "RestartPreventExitStatus=255",
            "ExecStopPost=/bin/sh -c 'until test -e /run/share/go; do sleep 0.02; done'", start="/bin/sh -c 'exit 255'")
    request(booted, "start", unit="a.service")
    booted.wait_state("a", "stop-post")
    booted.initctl("reexec")
    (booted.share / "go").touch()
    booted.wait_state("a", "failed")
    assert booted.unit("a")["restarts"] == 0


def test_dynamic_user(booted):
    """Never root: a user that there is, or a sentence about who is missing."""
    service(booted, "nosuchuser", "DynamicUser=yes", start="/bin/sh -c 'id -u >/run/share/ran'")
    assert "DynamicUser=: there is no user nosuchuser" in start(booted, "nosuchuser", code=1)
    assert not (booted.share / "ran").exists()
    booted.share.chmod(0o777)
    service(booted, "b", "DynamicUser=yes", "User=daemon", "Type=oneshot", start="/bin/sh -c 'id -u >/run/share/ran'")
    start(booted, "b")
    assert wait_until(lambda: (booted.share / "ran").read_text().strip(), 10) != "0"
