# SPDX-License-Identifier: MIT
"""`initctl blame`: what the boot took its time for, by its stages and its services."""
import os
import signal

import pytest
from helpers import FOREVER, script, service, start, wait_log
from machine import wait_until


def boot(machine):
    """slow waits for a word, after waits for slow, broken fails, once does its work and is gone."""
    os.mkfifo(machine.share / "go")
    gate = script(machine, "gate", "read x </run/share/go")
    units = {"slow": f"ExecStartPre={gate}\nExecStart={FOREVER}\n",
             "after": f"ExecStart={FOREVER}\n",
             "broken": "Type=oneshot\nExecStart=/bin/false\n",
             "once": "Type=oneshot\nExecStart=/bin/true\n"}
    for image in machine.images.values():
        image.conf(services=[f"{name}.service" for name in units])
        for name, text in units.items():
            unit = "[Unit]\nAfter=slow.service\n" if name == "after" else ""
            image.service(name, f"{unit}[Service]\n{text}")
    machine.start()


def blame(machine):
    document = machine.json("blame")
    assert document["result"] == "ok"
    return document["boot"], {s["name"].removesuffix(".service"): s for s in document["services"]}, document["stages"]


def finish(machine):
    (machine.share / "go").write_text("go\n")
    wait_until(lambda: blame(machine)[0]["waiting"] == 0, what="the end of the boot")


def test_each_stage_and_service(machine):
    boot(machine)
    machine.wait_state("broken", "failed")
    wait_until(lambda: blame(machine)[1]["once"]["usec"] is not None, what="the end of once")
    total, services, stages = blame(machine)
    assert total["waiting"] == 2
    assert services["slow"]["usec"] is None and services["slow"]["begin_usec"] >= 0
    assert services["after"]["begin_usec"] is None
    text = machine.initctl("blame").stdout
    assert "Not yet booted" in text and "2 services are not up yet" in text and "waits for its turn" in text, text
    finish(machine)
    service(machine, "later")
    start(machine, "later")
    total, services, stages = blame(machine)
    assert set(services) == {"slow", "after", "broken", "once"}, "later is no part of the boot"
    assert {"host", "mount"} <= {s["name"] for s in stages}
    assert all(s["usec"] >= 0 and not s["failed"] for s in stages), stages
    # One stage after the other, and nothing in between that is not one.
    assert sum(s["usec"] for s in stages) <= total["stages_usec"] <= total["total_usec"]
    assert total["kernel_usec"] is None, "the clock of a namespace is that of its machine"
    slow, after = services["slow"], services["after"]
    assert services["broken"]["failed"] and not slow["failed"]
    assert after["begin_usec"] >= slow["begin_usec"] + slow["usec"]
    assert after["waited_usec"] >= slow["usec"]
    ends = [s["begin_usec"] + s["usec"] for s in services.values()]
    assert abs(max(ends) - total["total_usec"]) <= 1
    lines = machine.initctl("blame").stdout.splitlines()
    assert lines[0].startswith("Booted ") and "in stages; last: after +" in lines[0], lines
    rows = lines[next(n for n, line in enumerate(lines) if "TOOK" in line) + 1:]
    costs = [float(row.split()[0]) for row in rows]
    assert len(rows) == len(stages) + 4 and costs == sorted(costs, reverse=True), rows
    assert any("broken" in row and "failed" in row for row in rows)


@pytest.mark.parametrize("how", ["reexec", "crash", "upgrade"])
def test_kept_over_the_lives_of_pid_1(machine, how):
    boot(machine)
    machine.wait_state("broken", "failed")
    if how == "crash":  # in the middle of it
        os.kill(machine.pid, signal.SIGSEGV)
        wait_log(machine, "PID 1 crashed")
    finish(machine)
    before = blame(machine)
    if how == "reexec":
        machine.initctl("reexec")
    elif how == "upgrade":
        machine.upgrade("two")
    assert blame(machine) == before, machine.report()
    start(machine, "slow", verb="stop")
    (machine.share / "go").unlink()
    (machine.share / "go").write_text("go\n")
    start(machine, "slow")
    assert blame(machine) == before, "only the first start counts"
