#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the guard of an exec costs: the upgrade's phase "exec" with and without one, in turns, of a machine with N
services.

    python3 tests/bench/guard.py [SERVICES]

Without one: PID 1 is traced by somebody else then, who does nothing. The medians of eight upgrades each.
"""
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from machine import Machine  # noqa: E402

TRACER = """
import ctypes, sys
print(ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)  # PTRACE_SEIZE
sys.stdin.read()
"""
ROUNDS = 8


def exec_usec(machine, image):
    _, events = machine.upgrade(image)
    return next(e["usec"] for e in events if e["event"] == "phase" and e["name"] == "exec")


def exec_usec_unguarded(machine, image):
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(machine.pid)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    try:
        assert tracer.stdout.readline() == b"0\n", "PID 1 cannot be traced"
        return exec_usec(machine, image)
    finally:
        tracer.communicate(timeout=10)


def measure(count):
    seen = {"guarded": [], "unguarded": []}
    with tempfile.TemporaryDirectory() as tmp, Machine(tmp) as machine:
        names = [f"s{n}" for n in range(count)]
        for image in machine.images.values():
            image.conf(services=[f"{name}.service" for name in names])
            for name in names:
                image.service(name, "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=keep\n")
        machine.start()
        for name in names:
            machine.wait_state(name, timeout=60)
        for _ in range(ROUNDS):
            seen["guarded"].append(exec_usec(machine, "two"))
            seen["unguarded"].append(exec_usec_unguarded(machine, "one"))
    return {name: statistics.median(values) / 1000 for name, values in seen.items()}


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    print(f"{count} services; medians of {ROUNDS} upgrades each, ms")
    result = measure(count)
    for name, value in result.items():
        print(f"  {name:<10}{value:10.2f}")
    print(f"  ratio     {result['guarded'] / result['unguarded']:10.2f}")


if __name__ == "__main__":
    main()
