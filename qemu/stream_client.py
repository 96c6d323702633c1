# SPDX-License-Identifier: MIT
"""Clients that stay: each holds one connection to tests/tools/stream.c and checks every line.

A connection that ends before the client wanted it to is a failure, and so is a beat that is missing
or twice there, an unknown line, and an echo that differs from what was sent. There is no second
connection: whoever was cut off stays cut off.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qemu.http_client import longest_gap, one_of

ECHO_EVERY = 0.25


@dataclass(frozen=True)
class Streams:
    """A group of like clients."""

    name: str
    host: str
    port: int | Sequence[int]
    clients: int = 4
    timeout: float = 30.0  # of silence, after which the connection counts as dead


@dataclass
class StreamSeen:
    """What one client saw."""

    beats: list[float] = field(default_factory=list)  # when each arrived
    server_gap: float = 0.0  # the longest pause between two beats by the server's own clock
    echoes: int = 0
    server: str = ""  # its first line
    open: bool = False
    problems: list[str] = field(default_factory=list)


class StreamStats:
    """The sum over a group of clients."""

    def __init__(self, name: str, seen: list[StreamSeen]) -> None:
        self.name = name
        self.seen = seen
        self.clients = len(seen)
        self.opened = sum(1 for s in seen if s.server)
        self.still_open = sum(1 for s in seen if s.open)
        self.beats = sum(len(s.beats) for s in seen)
        self.echoes = sum(s.echoes for s in seen)
        self.server_gap = max((s.server_gap for s in seen), default=0.0)
        self.problems = [f"{name}: {text}" for s in seen for text in s.problems]
        self.failed = sum(1 for s in seen if s.problems)

    def longest_gap(self, begin: float = float("-inf"), end: float = float("inf")) -> float:
        """The longest time from one beat to the next, as the clients saw it."""
        return max((longest_gap(s.beats, begin, end) for s in self.seen), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "clients": self.clients, "opened": self.opened,
            "still_open": self.still_open, "failed": self.failed, "beats": self.beats,
            "echoes": self.echoes, "longest_gap": round(self.longest_gap(), 4),
            "longest_gap_by_server": round(self.server_gap, 4),
        }


class StreamClient(threading.Thread):
    """One client, with a thread of its own."""

    def __init__(self, spec: Streams, number: int = 0) -> None:
        super().__init__(daemon=True)
        self.spec = spec
        self._place = (spec.host, one_of(spec.port, number))
        self.seen = StreamSeen()
        self._over = threading.Event()
        self._next = 0  # the number of the beat to come
        self._last_usec = 0
        self._echo_sent = 0

    @property
    def answers(self) -> int:
        return len(self.seen.beats)

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        try:
            with socket.create_connection(self._place, self.spec.timeout) as connection:
                self._follow(connection)
        except (OSError, EOFError, ValueError, IndexError) as error:
            if not self._over.is_set():
                self._complain(str(error) or type(error).__name__)
                self.seen.open = False

    def _follow(self, connection: socket.socket) -> None:
        connection.settimeout(self.spec.timeout)
        echo_at = time.monotonic()
        rest = b""
        while not self._over.is_set():
            if time.monotonic() >= echo_at and self._echo_sent == self.seen.echoes:
                self._echo_sent += 1
                connection.sendall(b"number %d\n" % self._echo_sent)
                echo_at = time.monotonic() + ECHO_EVERY
            data = connection.recv(65536)
            if not data:
                raise EOFError(f"the server closed the connection after beat {self._next - 1}")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line.decode("latin-1"))

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "beat":
            self._take_beat(*map(int, rest.split()))
        elif word == "echo" and rest == f"number {self.seen.echoes + 1}":
            self.seen.echoes += 1
        elif word == "hello" and not self.seen.server:
            self.seen.server = rest
            self.seen.open = True
        else:
            self._complain(f"not what was to come: {line!r}")

    def _take_beat(self, number: int, usec: int) -> None:
        self.seen.beats.append(time.monotonic())
        if number != self._next:
            self._complain(f"beat {number} came for {self._next}")
        if self._last_usec:
            self.seen.server_gap = max(self.seen.server_gap, (usec - self._last_usec) / 1e6)
        self._next = number + 1
        self._last_usec = usec

    def _complain(self, text: str) -> None:
        if len(self.seen.problems) < 20:  # a stream out of step complains of every line
            self.seen.problems.append(text)
