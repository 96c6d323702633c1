# SPDX-License-Identifier: MIT
"""States of other versions: all of them are taken up, or refused with a sentence; never is there a crash.

"Older" is what lacks a key or a record, "newer" is what has one that nobody knows here.
"""
import pytest
from machine import BUILD, TOP, Machine, wait_until

pytestmark = pytest.mark.timeout(120)

GOLDEN = sorted((TOP / "tests/golden").glob("*.state"))
# The descriptors that a state names are sockets of nobody here, and the processes are gone.
FIRST_LIFE = """#!/usr/bin/python3
import os, socket
ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
far = [os.dup(end.fileno()) for end in ends]
for number in range(8, 64):
    os.dup2(far[0], number, inheritable=True)
os.dup2(os.open("/run/share/state", os.O_RDONLY), 3, inheritable=True)
os.execv("/usr/sbin/molt", ["init", "--molt-state", "3", "molt.debug"])
"""
SERVICES = ("plain", "sock", "once", "flaky", "slow")


def take_up(tmp_path, text):
    """What an init says that begins its life with that state."""
    with Machine(tmp_path, images=("one",)) as machine:
        image = machine.images["one"]
        image.copy(BUILD / "molt", "usr/sbin/molt")
        image.write("usr/sbin/init", FIRST_LIFE, 0o755)
        image.write("usr/sbin/rescue", "#!/bin/sh\nexec /bin/sleep 1000\n", 0o755)
        image.write("etc/molt/init.conf.d/rescue.conf", "[Boot]\nRescueShell=/usr/sbin/rescue\nConsole=/run/console\n")
        for name in SERVICES:
            image.service(name, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")
        (machine.share / "state").write_text(text)
        machine.start(wait=False)
        wait_until(lambda: "took up the state" in machine.log() or "cannot go on: " in machine.log(), 20,
                   f"a life that begins or says why not\n{text}")
        log = machine.log()
        assert "PID 1 crashed" not in log, f"{text}\n{log}"
        assert machine.process.poll() is None, f"{text}\n{log}"
        return log


def records(text):
    return [record for record in text.split("\n\n") if record.strip()]


def join(parts):
    return "".join(part.strip("\n") + "\n\n" for part in parts)


def without_each_record(text):
    seen = set()
    for at, record in enumerate(records(text)):
        kind = record.split("\n")[0].split(" ")[0]
        if kind not in seen:
            seen.add(kind)
            yield f"without {kind}", join(r for n, r in enumerate(records(text)) if n != at)


def without_keys(text):
    """Each key of each kind of record, eight at a time: by themselves they would be a hundred lives of PID 1."""
    pairs = sorted({(record.split("\n")[0].split(" ")[0], line.split("=")[0])
                    for record in records(text) for line in record.split("\n")[1:]})
    for at in range(0, len(pairs), 8):
        gone = set(pairs[at:at + 8])
        yield f"without {gone}", join(
            "\n".join(line for n, line in enumerate(record.split("\n"))
                      if n == 0 or (record.split("\n")[0].split(" ")[0], line.split("=")[0]) not in gone)
            for record in records(text))


def with_more(text):
    yield "a newer version", text.replace("@molt-state 1", "@molt-state 99", 1)
    yield "keys that nobody knows", join(record + "\nsomething_new=1 2 3\nmore-of-it=" for record in records(text))
    yield "a record that nobody knows", join([*records(text), "@something-new with an id\nkey=value"])


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda p: p.stem)
def test_each_is_taken_up(tmp_path, golden):
    log = take_up(tmp_path, golden.read_text())
    assert "took up the state" in log, log


@pytest.mark.parametrize("mutate", [without_each_record, without_keys, with_more], ids=lambda f: f.__name__)
def test_mutations(tmp_path, mutate):
    text = GOLDEN[0].read_text()
    for what, mutated in mutate(text):
        log = take_up(tmp_path, mutated)
        if mutate is with_more:
            assert "took up the state" in log, f"{what}\n{log}"


def test_what_is_no_state_is_refused_with_a_sentence(tmp_path):
    log = take_up(tmp_path, GOLDEN[0].read_text()[:-40] + "\0 cut")
    assert "cannot go on: the state makes no sense in line" in log, log
