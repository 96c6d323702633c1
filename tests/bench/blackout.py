#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How long the blackout is, phase by phase: molt in a namespace, N processes with 26 descriptors each.

    python3 tests/bench/blackout.py [PROCESSES] [WORKING DIRECTORY]

With a working directory below "/" every process has to be migrated. The medians of eight upgrades.
"""
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from machine import Machine, wait_until  # noqa: E402

PROGRAM = """
import os, signal
os.chdir({directory!r})
descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(23)]
for _ in range({count}):
    if os.fork() == 0:
        signal.pause()
open("/run/ready", "w").write("yes")
signal.pause()
"""
PHASES = ("freeze", "verify", "seize", "pivot", "migrate", "thaw")
ROUNDS = 8


def measure(count, directory):
    with tempfile.TemporaryDirectory() as tmp, Machine(tmp) as machine:
        for image in machine.images.values():
            image.conf(services=["crowd.service"])
            image.write("opt/crowd.py", PROGRAM.format(count=count, directory=directory))
            image.service("crowd", "[Service]\nExecStart=/usr/bin/python3 /opt/crowd.py\n")
        machine.start()
        wait_until(lambda: machine.path("/run/ready").exists(), 60, "the crowd")
        seen = {name: [] for name in (*PHASES, "blackout")}
        for i in range(ROUNDS):
            _, events = machine.upgrade("two" if i % 2 == 0 else "one")
            for event in events:
                if event["event"] == "phase" and event["name"] in PHASES:
                    seen[event["name"]].append(event["usec"])
                elif event["event"] == "blackout":
                    seen["blackout"].append(event["usec"])
        return {name: statistics.median(values) / 1000 for name, values in seen.items()}


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    directory = sys.argv[2] if len(sys.argv) > 2 else "/"
    print(f"{count} processes, 26 descriptors each, in {directory}; medians of {ROUNDS} upgrades, ms")
    for name, value in measure(count, directory).items():
        print(f"  {name:<10}{value:10.2f}")


if __name__ == "__main__":
    main()
