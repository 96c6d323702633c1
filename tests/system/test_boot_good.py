# SPDX-License-Identifier: MIT
"""boot-good.d: its hooks run once after a boot whose services are all up, and never otherwise; and no boot default is
touched before a commit."""
import os
import pathlib
import signal

import pytest
from helpers import down, wait_file, wait_log
from machine import TOP, wait_until

pytestmark = pytest.mark.timeout(60)

SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=restart\n"
ONCE = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
GATED = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'until [ -e /run/share/go ]; do sleep 0.02; done'\nRemainAfterExit=yes\n"
TRACE = "echo $MOLT_PHASE >>/run/share/trace"


def hook(image, name, text, kind="boot-good"):
    image.write(f"/etc/molt/{kind}.d/{name}", f"#!/bin/sh\n{text}\n", 0o755)


def lay_out(machine, **services):
    for image in machine.images.values():
        image.conf(services=list(services))
        for name, text in services.items():
            image.service(name, text)
        hook(image, "50", TRACE)


def ran(machine):
    trace = machine.share / "trace"
    return trace.read_text().split() if trace.exists() else []


def test_when_all_are_up(machine):
    """Not before the last one; once; not again after an upgrade, a re-exec, or a service that comes back."""
    lay_out(machine, a=SLEEPER, once=ONCE, gate=GATED)
    machine.start()
    machine.wait_state("a")
    machine.wait_state("once", "inactive")
    assert ran(machine) == []
    (machine.share / "go").touch()
    wait_log(machine, "the boot is good")
    assert ran(machine) == ["boot-good"]
    machine.initctl("reexec")
    machine.initctl("restart", "a")
    machine.upgrade("two")
    assert ran(machine) == ["boot-good"]


def test_service_that_fails(machine):
    """Never good, until it has been mended."""
    lay_out(machine, a=SLEEPER, b="[Service]\nExecStart=/bin/sh -c 'test -e /run/share/go && exec sleep 1000'\nType=oneshot\n"
                                   "RemainAfterExit=yes\n".replace("exec sleep 1000", "exit 0"))
    machine.start()
    machine.wait_state("b", "failed")
    machine.wait_state("a")
    assert ran(machine) == []
    (machine.share / "go").touch()
    machine.initctl("start", "b")
    wait_log(machine, "the boot is good")
    assert ran(machine) == ["boot-good"]


def test_upgrade_before_it_was_good(machine):
    """The image gone to was not booted: nothing is said of it."""
    lay_out(machine, a=SLEEPER, gate=GATED)
    machine.start()
    machine.wait_state("a")
    machine.initctl("stop", "gate")
    machine.images["two"].conf(services=["a"])
    machine.upgrade("two")
    machine.initctl("restart", "a")
    assert ran(machine) == []


def test_hook_that_fails_ends_it(machine):
    lay_out(machine, a=SLEEPER)
    hook(machine.images["one"], "10-check", "echo no network; exit 3")
    machine.start()
    wait_log(machine, "the boot is not good: /etc/molt/boot-good.d/10-check exited with 3: no network")
    assert ran(machine) == []
    machine.upgrade("two")


def test_nothing_else_while_they_run(machine):
    """An upgrade is busy, a re-exec waits, a crash of PID 1 has them run again, a shutdown does not wait."""
    lay_out(machine, a=SLEEPER)
    hook(machine.images["one"], "60", "until [ -e /run/share/go ]; do sleep 0.02; done")
    machine.start()
    wait_file(machine.share / "trace")
    assert machine.initctl("upgrade", "/run/images/two", check=False).returncode == 5
    os.kill(machine.pid, signal.SIGSEGV)
    wait_until(lambda: ran(machine) == ["boot-good"] * 2, 10, "the hooks to run again")
    (machine.share / "go").touch()
    wait_log(machine, "the boot is good")
    machine.upgrade("two")


def test_shutdown_while_they_run(machine):
    lay_out(machine, a=SLEEPER)
    hook(machine.images["one"], "60", "sleep 1000")
    machine.start()
    wait_file(machine.share / "trace")
    down(machine)
    assert machine.process.wait(20) is not None


def test_no_default_is_touched_before_the_commit(machine):
    """The shipped hook with an image store: a loss of power before the commit boots the old image, after it the new one,
    and a rollback of a committed upgrade the old one."""
    for version, image in machine.images.items():
        image.conf(services=["a"], Upgrade={"RollbackWindowSec": "60s"})
        image.service("a", SLEEPER)
        image.write("usr/lib/os-release", f"ID=x\nIMAGE_VERSION={version}\n")
        image.write("etc/os-release", f"ID=x\nIMAGE_VERSION={version}\n")
        image.copy(TOP / "conf/image/molt-image", "usr/sbin/molt-image")
        for part in (TOP / "conf/image").glob("*.sh"):
            image.copy(part, f"usr/lib/molt/image/{part.name}")
        image.copy(TOP / "conf/hooks/commit.d/50-boot-default", "usr/lib/molt/commit.d/50-boot-default")
        image.copy(TOP / "conf/hooks/boot-good.d/50-boot-good", "usr/lib/molt/boot-good.d/50-boot-good")
        image.write("etc/molt/image.conf", "Store=/run/share/store\nLoader=molt\n")
    store = machine.share / "store"
    for version in machine.images:
        (store / version).mkdir(parents=True)
    order = store / "boot"
    order.write_text("one 3\n")
    machine.start()
    wait_log(machine, "this boot of one is good")
    assert order.read_text() == "one good\n"
    told = machine.initctl("upgrade", "--no-auto-commit", "/run/images/two").stdout
    assert "not committed yet" in told and order.read_text() == "one good\n"
    machine.initctl("commit")
    assert order.read_text() == "two 3\none good\n"
    assert machine.initctl("rollback", check=False).returncode == 4
    assert order.read_text() == "one good\ntwo bad\n"
