#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How long the blackout is, phase by phase: molt in a namespace, N processes with 26 descriptors each.

    python3 tests/bench/blackout.py [PROCESSES] [WORKING DIRECTORY] [SOCKETS]

With a working directory below "/" every process has to be migrated. With SOCKETS the images can be written to and as
many unix sockets are bound beside them: they are looked through in the blackout, and in every other upgrade, by
--force, not. The medians of eight upgrades.
"""
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from machine import Machine, wait_until  # noqa: E402

PROGRAM = """
import os, signal, socket
os.chdir({directory!r})
descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(23)]
sockets = [socket.socket(socket.AF_UNIX) for _ in range({sockets})]
for number, bound in enumerate(sockets):
    bound.bind("/run/bound-%d" % number)
    bound.listen()
children = range({count})
for _ in children:
    if os.fork() == 0:
        for bound in sockets:
            bound.close()
        signal.pause()
open("/run/ready", "w").write("yes")
signal.pause()
"""
PHASES = ("freeze", "verify", "seize", "pivot", "migrate", "thaw")
ROUNDS = 8


def measure(count, directory, sockets):
    writable = ("one", "two") if sockets else ()
    with tempfile.TemporaryDirectory() as tmp, Machine(tmp, writable=writable) as machine:
        for image in machine.images.values():
            image.conf(services=["crowd.service"])
            image.write("opt/crowd.py", PROGRAM.format(count=count, directory=directory, sockets=sockets))
            image.service("crowd", "[Service]\nExecStart=/usr/bin/python3 /opt/crowd.py\n")
        machine.start()
        wait_until(lambda: machine.path("/run/ready").exists(), 60, "the crowd")
        seen = {name: [] for name in (*PHASES, "blackout")}
        forced = {name: [] for name in seen}
        for i in range(ROUNDS * 2 if sockets else ROUNDS):
            force = bool(sockets) and i // 2 % 2 == 1
            _, events = machine.upgrade("two" if i % 2 == 0 else "one", *(["--force"] if force else []))
            into = forced if force else seen
            for event in events:
                if event["event"] == "phase" and event["name"] in PHASES:
                    into[event["name"]].append(event["usec"])
                elif event["event"] == "blackout":
                    into["blackout"].append(event["usec"])
        return [{name: statistics.median(values) / 1000 for name, values in times.items()}
                for times in (seen, forced) if times["blackout"]]


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    directory = sys.argv[2] if len(sys.argv) > 2 else "/"
    sockets = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    print(f"{count} processes, 26 descriptors each, in {directory}; medians of {ROUNDS} upgrades, ms")
    times = measure(count, directory, sockets)
    if sockets:
        print(f"{'':<12}{'looked for':>10}{'--force':>10}  ({sockets} sockets)")
    for name in times[0]:
        print(f"  {name:<10}" + "".join(f"{column[name]:10.2f}" for column in times))


if __name__ == "__main__":
    main()
