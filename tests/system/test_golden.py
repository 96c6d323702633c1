# SPDX-License-Identifier: MIT
"""States of other versions: all of them are taken up, or refused with a sentence; never is there a crash.

"Older" is what lacks a key or a record, "newer" is what has one that nobody knows here. The other way round, what this
version writes has every key that an older one reads, in the form that it reads; `make older` lets one do it.
"""
import os
import pathlib
import re

import pytest
from helpers import FOREVER, request
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
    """Each key of each record: one of each at a time, as many lives as the longest record has keys."""
    parts = [record.split("\n") for record in records(text)]
    for gone in range(1, max(len(lines) for lines in parts)):
        names = [f"{lines[0]}: {lines[gone].split('=')[0]}" for lines in parts if gone < len(lines)]
        yield f"without {', '.join(names)}", join("\n".join(lines[:gone] + lines[gone + 1:]) for lines in parts)


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
        if ".service: state" in what:  # the one key of all that nothing can stand for
            assert 'cannot go on: flaky.service: the state "" is not known here' in log, f"{what}\n{log}"
        elif mutate is not without_each_record:
            assert "took up the state" in log, f"{what}\n{log}"


def test_what_is_no_state_is_refused_with_a_sentence(tmp_path):
    log = take_up(tmp_path, GOLDEN[0].read_text()[:-40] + "\0 cut")
    assert "cannot go on: the state makes no sense in line" in log, log


# The same services as in the golden files, each in its state.
UNITS = {
    "plain": f"[Service]\nExecStart={FOREVER}\n",
    "sock": f"[Socket]\nListenStream=/run/sock.sock\n[Service]\nExecStart={FOREVER}\n",
    "once": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "flaky": "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=1h\n",
    "slow": f"[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart={FOREVER}\n",
}
STATES = {"plain": "running", "sock": "running", "once": "exited", "flaky": "backoff", "slow": "starting"}


def begin(machine):
    """A machine like the one that the golden files are of; returns the client that waits."""
    for image in machine.images.values():
        image.conf(services=[name for name in UNITS if name != "slow"])
        for name, text in UNITS.items():
            image.service(name, text)
    machine.start()
    waiting = request(machine, "start", unit="slow.service")
    for name, state in STATES.items():
        machine.wait_state(name, state)
    return waiting


def form_of(text):
    """Of a value: how many numbers; yes or no; or words, which may be any."""
    if re.fullmatch(r"-?\d+( -?\d+)*", text):
        return len(text.split())
    return "yes or no" if text in ("yes", "no") else "words"


def forms(text):
    """Of each kind of record and key: in which forms it is written; none where there is no value."""
    found = {}
    for record in records(text):
        head, *lines = record.split("\n")
        for key, _, value in (line.partition("=") for line in lines):
            found.setdefault((head.split(" ")[0], key), set()).update([form_of(value)] if value else [])
    return found


def kept(machine):
    """What PID 1 has written down for a life after a crash, as soon as it has all of it; the same as for any exec."""
    for link in pathlib.Path(f"/proc/{machine.pid}/fd").iterdir():
        if "molt-kept" in os.readlink(link):
            text = link.read_text()
            if all(f"@service {name}.service\nstate={state}\n" in text for name, state in STATES.items()):
                return text
    return None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The state that this version writes of such a machine."""
    with Machine(tmp_path_factory.mktemp("written"), images=("one",)) as machine, begin(machine):
        return wait_until(lambda: kept(machine), what="the whole state")


def is_read_as(now, then):
    """More numbers may follow the ones that the older version knows."""
    return now == then or isinstance(now, int) and isinstance(then, int) and now > then


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda p: p.stem)
def test_what_an_older_version_reads_is_still_written(written, golden):
    now = forms(written)
    for where, then in forms(golden.read_text()).items():
        if where == ("@upgrade", "path"):
            continue  # only while one is under way: make older
        assert where in now, f"{where}: an older version has written it, and reads it"
        assert not then or any(is_read_as(n, t) for n in now[where] for t in then), f"{where}: {then} is {now[where]}"


if "MOLT_OLDER" in os.environ:  # make older: not a test of every day, since it wants the history of the repository
    def test_older_init_and_back(tmp_path):
        """Up from the older version and down to it again: each takes up the state of the other, and nobody notices."""
        older = pathlib.Path(os.environ["MOLT_OLDER"])
        with Machine(tmp_path, images=("one", "two", "three")) as machine:
            machine.images["two"].copy(older / "molt", "usr/sbin/molt")
            machine.images["two"].copy(older / "initctl", "usr/bin/initctl")
            with begin(machine):
                pids = {name: machine.service_pids(name) for name in UNITS}
                for target in ("two", "three", "two"):
                    code, told = machine.upgrade(target)
                    assert code == 0, (target, told, machine.report())
                    log = machine.log()
                    assert {name: machine.service_pids(name) for name in UNITS} == pids, log
                    for name, state in STATES.items():
                        machine.wait_state(name, state)
                print(machine.log())
