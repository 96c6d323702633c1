# SPDX-License-Identifier: MIT
"""Services of devices before the local mounts, with a deadline; and mounts whose device comes later."""
import os
import signal

import pytest
from helpers import FOREVER, down, script, wait_file, wait_log
from machine import Machine, wait_until

READY = "systemd-notify --ready"


def note(word):
    return f"echo {word} >>/run/share/order"


def order(machine):
    return (machine.share / "order").read_text().split()


def is_running(machine):
    return machine.json("status")["system"]["state"] == "running"


@pytest.fixture
def machine(tmp_path):
    """A manager of devices that says when it is ready, and a coldplug after it; one mount, one service."""
    with Machine(tmp_path, images=("one",)) as machine:
        image = machine.images["one"]
        image.conf(services=["a.service"], Manager={"CrashLoopSec": "0"})
        image.write("etc/molt/init.conf.d/devices.conf", "[Boot]\nDeviceServices=manager plug.service\n")
        manager = script(machine, "manager", f"{note('manager')}\n{READY}\nexec sleep 1000")
        image.service("manager", f"[Service]\nType=notify\nExecStart={manager}\n")
        image.service("plug", "[Unit]\nAfter=manager.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                              f"ExecStart={script(machine, 'plug', note('plug'))}\n")
        image.service("a", f"[Service]\nExecStart=/bin/sh -c '{note('a')}; exec sleep 1000'\n")
        image.write("etc/fstab", "none /srv slow defaults\n")
        image.write("usr/sbin/mount.slow", f"#!/bin/sh\n{note('mount')}\nexec mount -i -t tmpfs tmpfs \"$2\"\n", 0o755)
        yield machine


def test_devices_come_before_the_local_mounts_and_these_before_the_services(machine):
    machine.start()
    machine.wait_state("a")
    wait_until(lambda: len(order(machine)) == 4, what="everybody's word")
    assert order(machine) == ["manager", "plug", "mount", "a"], machine.report()
    assert machine.unit("manager")["state"] == "running"
    # Its log is on no mount that comes later, and on none that is to be mounted over.
    fd = os.readlink(f"/proc/{machine.service_pids('manager')[0]}/fd/1")
    assert fd == "/run/molt/log/manager.log"


def test_a_deadline_that_passes_is_a_warning(machine):
    image = machine.images["one"]
    image.service("manager", f"[Service]\nType=notify\nExecStart={FOREVER}\n")
    image.write("etc/molt/init.conf.d/timeout.conf", "[Boot]\nDeviceTimeoutSec=300ms\n")
    machine.start()
    machine.wait_state("a")
    assert "not up: manager.service, plug.service" in machine.log()
    assert "bringing up the services of devices takes too long: the boot goes on" in machine.log()
    assert machine.unit("manager")["state"] == "starting", "it may still come up"


@pytest.mark.parametrize("fails", ["exec", "missing"])
def test_what_fails_is_not_waited_for(machine, fails):
    image = machine.images["one"]
    if fails == "exec":
        image.service("manager", "[Service]\nType=notify\nExecStart=/bin/false\n")
    else:
        image.write("etc/molt/init.conf.d/z.conf", "[Boot]\nDeviceServices=\nDeviceServices=nobody.service\n")
    machine.start()
    machine.wait_state("a")
    assert "bringing up the services of devices failed: the boot goes on" in machine.log(), machine.report()


def test_crashes_while_it_waits(machine):
    """One manager, one coldplug, and then the rest of the boot."""
    image = machine.images["one"]
    os.mkfifo(machine.share / "go")
    slow = script(machine, "slow", f"{note('manager')}\nread x </run/share/go\n{READY}\nexec sleep 1000")
    image.service("manager", f"[Service]\nType=notify\nExecStart={slow}\n")
    machine.start(wait=False)
    wait_file(machine.share / "order")
    for count in (1, 2, 3):
        os.kill(machine.pid, signal.SIGSEGV)
        wait_until(lambda n=count: machine.log().count("going on with the boot") == n, what="the next life")
    assert machine.json("status")["system"]["state"] == "booting"
    (machine.share / "go").write_text("x\n")
    machine.wait_state("a")
    wait_until(lambda: "a" in order(machine), what="everybody's word")
    assert order(machine) == ["manager", "plug", "mount", "a"], machine.report()


def test_who_waits_hears_for_whom(machine):
    machine.images["one"].service("manager", f"[Service]\nType=notify\nExecStart={FOREVER}\n")
    machine.start(wait=False)
    wait_log(machine, "still bringing up the services of devices, 5 s of 30 s: manager.service, plug.service")


def test_shutdown_while_it_waits(machine):
    machine.images["one"].service("manager", f"[Service]\nType=notify\nExecStart={FOREVER}\n")
    machine.start(wait=False)
    wait_log(machine, "manager.service: waiting -> starting")
    down(machine)
    assert machine.process.wait(30) == 128 + signal.SIGINT


def test_no_services_of_devices(machine):
    machine.images["one"].write("etc/molt/init.conf.d/z.conf", "[Boot]\nDeviceServices=no\n")
    machine.start()
    machine.wait_state("a")
    assert "manager" not in order(machine)


def test_a_mount_waits_for_its_device(machine):
    """Its directory is not there either, and it comes by a rename, as udev makes links."""
    image = machine.images["one"]
    os.mkfifo(machine.share / "go")
    late = script(machine, "late", f"{READY}\nread x </run/share/go\nmkdir -p /dev/shm/disk\nmknod /dev/shm/node b 7 0\n"
                                   "ln -s ../node /dev/shm/disk/tmp\nmv /dev/shm/disk/tmp /dev/shm/disk/data\nexec sleep 1000")
    image.service("manager", f"[Service]\nType=notify\nExecStart={late}\n")
    image.write("etc/fstab", "/dev/shm/disk/data /srv slow defaults\n")
    machine.start(wait=False)
    wait_log(machine, "waiting for the device /dev/shm/disk/data")
    assert machine.json("status")["system"]["state"] == "booting"
    assert "mount" not in order(machine)
    (machine.share / "go").write_text("x\n")
    machine.wait_state("a")
    wait_until(lambda: "a" in order(machine), what="its word")
    assert order(machine)[-2:] == ["mount", "a"]
    assert "Z cannot mount" not in machine.log()


def test_a_mount_waits_no_longer_than_it_says(machine):
    machine.images["one"].write("etc/fstab", "UUID=0000-none /srv ext4 nofail,x-systemd.device-timeout=200ms\n"
                                             "LABEL=none /mnt ext4 nofail,x-systemd.device-timeout=200ms\n")
    machine.start()
    wait_until(lambda: is_running(machine), 20, "the boot")
    assert "cannot mount UUID=0000-none" in machine.log() and "cannot mount LABEL=none" in machine.log()
