# SPDX-License-Identifier: MIT
"""PID 1 crashes over a message of a service, at any of its calls: the message is heard all the same, once or twice."""
import os
import signal

import pytest
from helpers import answer, outside, request, script, service, start, wait_log
from machine import BUILD, Machine, wait_until
from seam import COUNT, CRASH, Seam
from test_crash import no_loop
from test_golden import FIRST_LIFE, GOLDEN
from test_notify import SEND

pytestmark = pytest.mark.timeout(120)

# PID 1's calls from the exec after a crash on until it has a state of its own, and some more.
LIFE = 500

# Each line that it is told is a number, for a message with a descriptor and what a service asks so that it knows it heard.
SPEAKER = SEND + """
import select
given = os.environ.get("LISTEN_FDNAMES", "")
open("/run/share/given", "w").write(given)
send("READY=1")
while True:
    for line in open("/run/share/say"):
        n = line.strip()
        m = os.memfd_create(n)
        send("STATUS=%s\\nFDSTORE=1\\nFDNAME=n%s" % (n, n), [m])
        r, w = os.pipe()
        send("BARRIER=1", [w])
        os.close(w)
        poll = select.poll()
        poll.register(r, 0)
        poll.poll()
        os.close(r)
        open("/run/share/heard", "a").write(n + "\\n")
"""


@pytest.fixture
def watched(machine):
    """With a seam at PID 1's calls, and a loop of crashes that is none."""
    machine.seam = Seam(machine)
    no_loop(machine)
    os.mkfifo(machine.share / "say")
    (machine.share / "heard").write_text("")
    return machine.start()


def say(machine, number):
    """Returns when the service knows that it was heard."""
    (machine.share / "say").write_text(f"{number}\n")
    wait_until(lambda: f"{number}\n" in (machine.share / "heard").read_text(), 20, f"an answer to {number}")


@pytest.mark.parametrize("twice", (False, True), ids=("once", "twice"))
def test_a_message_and_its_descriptor(watched, twice):
    service(watched, "s", "Type=notify", "FileDescriptorStoreMax=4096",
            start=script(watched, "speaker", SPEAKER, "/usr/bin/python3"))
    start(watched, "s")
    watched.seam.arm(COUNT)
    say(watched, 0)
    total = watched.seam.page.count
    assert total > 20
    hits = 0
    for n in range(1, total + 1):
        watched.seam.arm(CRASH, n, signal.SIGSEGV, again=twice and 1 + n * 61 % LIFE)
        say(watched, n)
        hits += watched.seam.hit
        watched.seam.disarm()
        unit = watched.unit("s")
        assert (unit["status"], unit["state"]) == (str(n), "running"), f"call {n} of {total}\n{watched.report()}"
    assert hits > total * 3 // 4, (hits, total)
    assert "a message that was under way in the crash is heard" in watched.log()
    pid = watched.unit("s")["main_pid"]
    start(watched, "s", verb="restart")
    assert watched.unit("s")["main_pid"] != pid
    # Each of them once.
    assert (watched.share / "given").read_text().split(":") == [f"n{n}" for n in range(total + 1)], watched.report()


def test_ready(watched):
    """At each call from READY=1 on, a service that waits for it included."""
    ready = script(watched, "ready", SEND + "wait('say')\nsend('READY=1')\nwait('say')\n", "/usr/bin/python3")
    service(watched, "r", "Type=notify", start=ready)
    service(watched, "next", "Type=oneshot", "RemainAfterExit=yes", unit=["After=r.service", "Requires=r.service"],
            start="/bin/true")

    def begin(mode, nth=0):
        client = request(watched, "start", unit="next.service")
        watched.wait_state("r", "starting")
        watched.seam.arm(mode, nth, signal.SIGSEGV)
        (watched.share / "say").write_text("x\n")
        return client

    client = begin(COUNT)
    assert answer(client)[0] == "ok"
    total = watched.seam.page.count
    for nth in range(1, total, max(1, total // 25)):
        start(watched, "r", verb="stop")
        start(watched, "next", verb="stop")
        client = begin(CRASH, nth)
        try:
            assert answer(client)[0] == "ok"
        except (AssertionError, ConnectionError):
            pass  # the answer itself was under way: then it has to be asked for again
        watched.seam.disarm()
        watched.wait_state("r")
        try:
            watched.wait_state("next", "exited")
        except AssertionError:
            raise AssertionError(f"call {nth} of {total}\n{watched.report()}")
        assert len(watched.service_pids("r")) == 1, watched.report()


MESSAGE = "@message plain.service\ninstance=1\nsender=4\nnumber=0\ntries={}\ntext=STATUS=poison\n\n"


def test_one_that_PID_1_crashes_over_is_dropped(tmp_path):
    """It was begun twice already: not a third time, and that is told."""
    with Machine(tmp_path, images=("one",)) as machine:
        image = machine.images["one"]
        image.copy(BUILD / "molt", "usr/sbin/molt")
        image.write("usr/sbin/init", FIRST_LIFE, 0o755)
        image.service("plain", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")
        (machine.share / "state").write_text(GOLDEN[0].read_text() + MESSAGE.format(1) + MESSAGE.format(2))
        machine.start(wait=False)
        wait_log(machine, "took up the state", 20)
        wait_log(machine, "plain.service: a message that was under way in the crash is heard")
        assert machine.log().count("plain.service: a message is dropped, since PID 1 has crashed 2 times over it: "
                                   "STATUS=poison") == 1
