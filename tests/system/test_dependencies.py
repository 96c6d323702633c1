# SPDX-License-Identifier: MIT
"""After=, Before=, Requires=, Wants=: what waits for what, and what does not."""
import os
import time

from helpers import FOREVER, answer, down, request, service, start, state, stop, wait_log
from machine import wait_until

NOTE = "/bin/sh -c 'echo {0} >>/run/share/order'"


def order(machine):
    return (machine.share / "order").read_text().split()


def units(machine, **texts):
    for name, text in texts.items():
        machine.images["one"].service(name, text)
    machine.images["one"].conf(services=[f"{name}.service" for name in texts])


def noting(name, *unit, stop_too=False):
    lines = ["[Unit]", *unit, "[Service]", f"ExecStart={FOREVER}", "ExecStartPre=" + NOTE.format(name)]
    if stop_too:
        lines.append("ExecStop=" + NOTE.format("stop-" + name))
    return "\n".join(lines) + "\n"


def test_order_of_start_and_stop(machine):
    units(machine, a=noting("a", "After=b.service", stop_too=True), b=noting("b", "After=c.service", stop_too=True),
          c=noting("c", stop_too=True), d=noting("d", "Before=c.service", stop_too=True))
    machine.start()
    for name in "abcd":
        machine.wait_state(name)
    assert order(machine) == ["d", "c", "b", "a"]
    down(machine)
    machine.process.wait(30)
    assert order(machine)[4:] == ["stop-a", "stop-b", "stop-c", "stop-d"]


def test_unordered_services_start_side_by_side(machine):
    """Each waits for the other to have begun: one after the other they would never be ready."""
    os.mkfifo(machine.share / "pipe")
    units(machine, writer="[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo x >/run/share/pipe'\n",
          reader="[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'read x </run/share/pipe'\n")
    machine.start()
    machine.wait_state("writer", "exited")
    machine.wait_state("reader", "exited")


def test_what_comes_after_waits_until_the_first_is_ready(machine):
    machine.start()
    os.mkfifo(machine.share / "pipe")
    service(machine, "slow", "Type=oneshot", "RemainAfterExit=yes", start="/bin/sh -c 'read x </run/share/pipe'")
    service(machine, "fast", unit=("Requires=slow.service", "After=slow.service"))
    client = request(machine, "start", unit="fast.service")
    machine.wait_state("slow", "starting")
    assert state(machine, "fast") == "waiting"
    (machine.share / "pipe").write_text("x\n")
    assert answer(client)[0] == "ok"
    assert state(machine, "fast") == "running"


def test_requirement_that_fails(machine):
    machine.start()
    service(machine, "bad", start="/nowhere/bad")
    service(machine, "badly", "Type=oneshot", start="/bin/false")
    service(machine, "needs", unit=("Requires=badly.service", "After=badly.service"))
    service(machine, "likes", unit=("Wants=badly.service", "After=badly.service"))
    service(machine, "chain", unit=("Requires=needs.service", "After=needs.service"))
    assert "badly.service" in start(machine, "needs", code=1)
    assert state(machine, "needs") == "failed"
    start(machine, "likes")
    assert "needs.service" in start(machine, "chain", code=1)
    # Mended, it goes.
    service(machine, "badly", "Type=oneshot", start="/bin/true")
    start(machine, "chain")


def test_requirement_that_is_not_there_leaves_out_nobody_else(machine):
    machine.start()
    service(machine, "a", unit=("Requires=missing.service",))
    service(machine, "b", unit=("Requires=a.service",))
    service(machine, "c", unit=("Wants=a.service missing.service",))
    said = start(machine, "a", code=1)
    assert "a.service needs missing.service" in said
    assert "b.service needs a.service" in start(machine, "b", code=1)
    start(machine, "c")
    assert [unit["name"] for unit in machine.json("status")["services"]] == ["c.service"]
    # A running service edited so stays as it is.
    service(machine, "c", unit=("Requires=missing.service",))
    first = machine.unit("c")["main_pid"]
    assert "missing.service" in start(machine, "c", code=1, verb="restart")
    assert machine.unit("c")["main_pid"] == first
    # Once it is there, all go.
    service(machine, "missing")
    start(machine, "b")


def test_stop_takes_along_what_requires_it(machine):
    machine.start()
    service(machine, "db")
    service(machine, "web", unit=("Requires=db.service", "After=db.service"))
    service(machine, "proxy", unit=("Requires=web.service", "After=web.service"))
    service(machine, "other", unit=("Wants=db.service", "After=db.service"))
    for name in ("proxy", "other"):
        start(machine, name)
    stop(machine, "db")
    assert {n: state(machine, n) for n in ("db", "web", "proxy", "other")} == {
        "db": "inactive", "web": "inactive", "proxy": "inactive", "other": "running"}
    log = machine.log()
    downs = [log.index(f"{name}.service: terminating -> inactive") for name in ("proxy", "web", "db")]
    assert downs == sorted(downs)


def test_circles(machine):
    """They are told once and broken at one of the circle; who only waits for the circle comes after it."""
    units(machine, a=noting("a", "After=b.service"), b=noting("b", "After=c.service"), c=noting("c", "After=b.service"),
          d=noting("d", "After=d.service"), e=noting("e", "Requires=f.service"), f=noting("f", "Requires=e.service"))
    machine.start()
    for name in "abcdef":
        machine.wait_state(name)
    names = [name for name in order(machine) if name in "abc"]
    assert names[0] == "b", machine.report()
    assert machine.log().count("go round in circles") == 1
    down(machine)
    assert machine.process.wait(30) == 130


def test_stop_of_one_that_waits(machine):
    machine.start()
    os.mkfifo(machine.share / "pipe")
    service(machine, "slow", "Type=oneshot", start="/bin/sh -c 'read x </run/share/pipe'")
    service(machine, "next", unit=("Requires=slow.service", "After=slow.service"))
    client = request(machine, "start", unit="next.service")
    machine.wait_state("slow", "starting")
    stop(machine, "next")
    assert state(machine, "next") == "inactive"
    assert answer(client)[0] == "ok"  # it has settled: somebody else stopped it
    stop(machine, "slow")


def test_two_hundred_services(machine):
    """In a chain of ten at a time; init keeps answering meanwhile."""
    texts = {}
    for i in range(200):
        after = f"After=s{i - 10:03}.service\n" if i >= 10 else ""
        texts[f"s{i:03}"] = f"[Unit]\n{after}[Service]\nExecStart={FOREVER}\n"
    units(machine, **texts)
    machine.start()
    begin, slowest = time.monotonic(), 0.0

    def all_up():
        nonlocal slowest
        asked = time.monotonic()
        services = machine.json("status")["services"]
        slowest = max(slowest, time.monotonic() - asked)
        return len(services) == 200 and all(unit["state"] == "running" for unit in services)

    wait_until(all_up, 60, "200 services")
    assert slowest < 5
    down(machine)
    assert machine.process.wait(60) == 130
    print(f"200 services up and down in {time.monotonic() - begin:.1f} s, slowest answer {slowest:.2f} s")


def test_ordering_five_hundred_services_takes_no_time(machine):
    """Each start ranks all anew: that must not cost what is quadratic in them, or worse."""
    texts = {}
    for i in range(500):
        others = " ".join(f"s{j:03}.service" for j in range(max(0, i - 20), i))
        texts[f"s{i:03}"] = f"[Unit]\nAfter={others}\n[Service]\nType=oneshot\nExecStart=/bin/true\nExecStop=/bin/true\n"
    units(machine, **texts)
    machine.start()
    begin = time.monotonic()
    wait_log(machine, "s000.service: waiting -> starting", 60)
    assert time.monotonic() - begin < 10
