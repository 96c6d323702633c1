# SPDX-License-Identifier: MIT
"""The system inside a machine, as far as its agent (tests/tools/agent.c) reaches: run and see."""

from __future__ import annotations

import collections
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from qemu.machine import Machine

BOOT_TIMEOUT = 120.0


@dataclass(frozen=True)
class Result:
    """What a script in the guest printed (both streams) and its exit code."""

    code: int
    output: str


def _words(header: bytes) -> list[bytes]:
    """Of the agent's line. A firmware may have drawn on the same serial port before."""
    found = re.search(rb"(hello \d+|out \d+ \d+|exit \d+ \d+)\r?\n$", header)
    return found.group(1).split() if found else []


class _Job:
    def __init__(self, follow: Callable[[str], None] | None) -> None:
        self.follow = follow
        self.output = bytearray()
        self.seen = 0  # bytes of the output that `follow` was told
        self.code: int | None = None


class Guest:
    """The agent's other end. A thread reads, so that several scripts can run side by side."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.hellos = 0  # of the agent: more than one means that it was started again
        self._jobs: dict[int, _Job] = collections.OrderedDict()
        self._changed = threading.Condition()
        self._socket: socket.socket = machine.agent
        threading.Thread(target=self._read, daemon=True).start()

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Waits until the agent has said hello."""
        self.wait_hello(1, timeout)

    def wait_hello(self, number: int, timeout: float) -> None:
        """Waits for one of its hellos: of a boot by kexec, after those of the boots before."""
        with self._changed:
            if not self._changed.wait_for(
                    lambda: self.hellos >= number or not self.machine.running(), timeout):
                raise self.machine.failure(f"the guest was not up within {timeout:.0f} s")
        if not self.machine.running():
            raise self.machine.failure("the machine went off while it booted")

    def wait_again(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Waits for the next hello after those there were: of the system that a reboot brings up."""
        with self._changed:
            before = self.hellos
            if not self._changed.wait_for(lambda: self.hellos > before, timeout):
                raise self.machine.failure(f"the guest was not up again within {timeout:.0f} s")

    def run(self, script: str, timeout: float = 60.0,
            follow: Callable[[str], None] | None = None) -> Result:
        """Runs a shell script; `follow` gets each line of its output as it comes."""
        job, number = self._submit(script, follow)
        with self._changed:
            if not self._changed.wait_for(
                    lambda: job.code is not None or not self.machine.running(), timeout):
                said = job.output.decode(errors="replace")
                raise self.machine.failure(f"no end of `{script}` within {timeout:.0f} s; "
                                           f"it printed: {said}")
            del self._jobs[number]
        if job.code is None:
            raise self.machine.failure(f"the machine went off during `{script}`")
        return Result(job.code, job.output.decode(errors="replace"))

    def check(self, script: str, timeout: float = 60.0) -> str:
        """Runs a script that must succeed; returns what it printed, stripped."""
        result = self.run(script, timeout)
        if result.code != 0:
            # What went wrong first: of a table the first line is all that there is room for.
            raise self.machine.failure(f"in the guest, exit {result.code}: {result.output.strip()}\n"
                                       f"of: {script}")
        return result.output.strip()

    def wait_until(self, script: str, timeout: float = 60.0, what: str = "") -> None:
        """Waits until a script succeeds: for conditions that announce themselves to nobody."""
        deadline = time.monotonic() + timeout
        while True:
            result = self.run(script, timeout)
            if result.code == 0:
                return
            if time.monotonic() > deadline:
                raise self.machine.failure(f"{what or script}: not so within {timeout:.0f} s: "
                                           f"{result.output.strip()}")
            time.sleep(0.2)

    def send(self, script: str, follow: Callable[[str], None] | None = None) -> None:
        """Starts a script whose end nobody waits for: `poweroff` takes its own agent with it."""
        self._submit(script, follow)

    def _submit(self, script: str, follow: Callable[[str], None] | None) -> tuple[_Job, int]:
        data = script.encode()
        job = _Job(follow)
        with self._changed:
            number = next(n for n in range(1, 1 << 30) if n not in self._jobs)
            self._jobs[number] = job
            self._socket.sendall(b"run %d %d\n" % (number, len(data)) + data)
        return job, number

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as stream:
                while header := stream.readline():
                    words = _words(header)
                    if not words:
                        continue
                    size = int(words[2]) if words[:1] == [b"out"] else 0
                    self._take(words, stream.read(size))
        except (OSError, ValueError, IndexError):
            pass  # the machine is gone, or talks nonsense: whoever waits runs into its time-out
        with self._changed:
            self._changed.notify_all()

    def _take(self, words: list[bytes], data: bytes) -> None:
        with self._changed:
            if words[0] == b"hello":
                self.hellos += 1
            elif job := self._jobs.get(int(words[1])):
                if words[0] == b"out":
                    job.output += data
                else:
                    job.code = int(words[2])
                self._tell(job)
            self._changed.notify_all()

    def _tell(self, job: _Job) -> None:
        if not job.follow:
            return
        while (end := job.output.find(b"\n", job.seen)) >= 0:
            job.follow(job.output[job.seen:end].decode(errors="replace"))
            job.seen = end + 1
