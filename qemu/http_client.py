# SPDX-License-Identifier: MIT
"""A client of HTTP that tells apart what ends a request, because the difference is the point:

  ok        answered with 200, whole
  failed    refused, reset, cut off or too late while a request was in flight, or another status
  closed    the server closed a kept connection between two requests, and we saw it before we sent
            the next one: no request met it
  crossed   a request on a kept connection met a close that was on its way: sent, then the end with
            not one byte of an answer. RFC 9112, 9.3.1 lets a client send such a request again, and
            every client does; so does this one, and the second try counts like any other request
"""

from __future__ import annotations

import collections
import select
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Http:
    """A group of like clients."""

    name: str
    host: str
    port: int | Sequence[int]  # several: the clients take turns
    keep_alive: bool
    clients: int = 2
    path: str = "/"
    pause: float = 0.01  # between two requests of one client
    timeout: float = 30.0


@dataclass
class Seen:
    """What one client saw. Only its thread writes; a reader may miss the latest, no more."""

    ends: list[float] = field(default_factory=list)  # when each good answer was whole
    latencies: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    crossed: int = 0
    announced: int = 0  # "Connection: close" in a good answer
    servers: collections.Counter[str] = field(default_factory=collections.Counter)


class HttpStats:
    """The sum over a group of clients."""

    def __init__(self, name: str, seen: list[Seen]) -> None:
        self.name = name
        self.seen = seen
        self.clients = len(seen)
        self.ok = sum(len(s.ends) for s in seen)
        self.failed = sum(len(s.failed) for s in seen)
        self.connections = sum(s.connections for s in seen)
        self.closed = sum(s.closed for s in seen)
        self.crossed = sum(s.crossed for s in seen)
        self.announced = sum(s.announced for s in seen)
        self.servers = sum((s.servers for s in seen), collections.Counter[str]())
        self.problems = [f"{name}: {text}" for s in seen for _, text in s.failed]

    def longest_gap(self, begin: float = float("-inf"), end: float = float("inf")) -> float:
        """The longest time from one good answer to the next, of any client, for the gaps that
        overlap the window."""
        return max((longest_gap(s.ends, begin, end) for s in self.seen), default=0.0)

    def latency(self, quantile: float) -> float:
        """A quantile (0 to 1) of the time from sending a request to its whole answer."""
        all_of_them = sorted(x for s in self.seen for x in s.latencies)
        return all_of_them[int(quantile * (len(all_of_them) - 1))] if all_of_them else 0.0

    def as_dict(self) -> dict[str, Any]:
        latencies = [x for s in self.seen for x in s.latencies]
        return {
            "name": self.name, "clients": self.clients, "ok": self.ok, "failed": self.failed,
            "connections": self.connections, "closed_between_requests": self.closed,
            "crossed": self.crossed, "closed_with_notice": self.announced,
            "longest_gap": round(self.longest_gap(), 4),
            "latency_median": round(statistics.median(latencies), 4) if latencies else None,
            "latency_max": round(max(latencies), 4) if latencies else None,
            "servers": dict(self.servers),
        }


def longest_gap(moments: list[float], begin: float, end: float) -> float:
    """The longest distance of two neighbours, for those that overlap the window."""
    pairs = zip(moments, moments[1:])
    return max((later - sooner for sooner, later in pairs if later > begin and sooner < end),
               default=0.0)


def one_of(port: int | Sequence[int], number: int) -> int:
    """The port for the client of that number."""
    return port if isinstance(port, int) else port[number % len(port)]


class HttpClient(threading.Thread):
    """One client. A thread with a blocking socket: it can look at the connection in the very moment
    before it sends, which is what "closed" and "crossed" are told apart by."""

    def __init__(self, spec: Http, number: int = 0) -> None:
        super().__init__(daemon=True)
        self.spec = spec
        self._place = (spec.host, one_of(spec.port, number))
        self.seen = Seen()
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self._used = False  # the connection has carried a request before
        kept = "keep-alive" if spec.keep_alive else "close"
        self._request = (f"GET {spec.path} HTTP/1.1\r\nHost: {spec.host}\r\n"
                         f"User-Agent: molt-load\r\nConnection: {kept}\r\n\r\n").encode()

    @property
    def answers(self) -> int:
        return len(self.seen.ends)

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        while not self._over.is_set():
            self._ask()
            self._over.wait(self.spec.pause)
        self._disconnect()

    def _ask(self) -> None:
        begin = time.monotonic()
        try:
            self._connect()
            answer = self._exchange()
        except _Crossed:
            self.seen.crossed += 1
            self._disconnect()
            self._ask()  # on a new connection, so it cannot cross a second time
        except (OSError, ValueError) as error:
            what, took = str(error) or type(error).__name__, time.monotonic() - begin
            self.seen.failed.append((begin, f"{what}, {took:.3f} s after asking"))
            self._disconnect()
        else:
            self._note(answer, begin)

    def _note(self, answer: _Answer, begin: float) -> None:
        end = time.monotonic()
        self.seen.ends.append(end)
        self.seen.latencies.append(end - begin)
        self.seen.servers[answer.server] += 1
        if not self.spec.keep_alive:
            self._disconnect()
        elif answer.last:
            self.seen.announced += 1
            self._disconnect()

    def _connect(self) -> None:
        if self._socket and _closed(self._socket):
            self.seen.closed += 1
            self._disconnect()
        if self._socket:
            return
        self._used = False
        self._socket = socket.create_connection(self._place, self.spec.timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seen.connections += 1

    def _disconnect(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None

    def _exchange(self) -> _Answer:
        assert self._socket
        used, self._used = self._used, True
        data = b""
        try:
            self._socket.sendall(self._request)
            while b"\r\n\r\n" not in data:
                data += _receive(self._socket)
        except (ConnectionError, EOFError) as error:
            if used and not data:
                raise _Crossed from error
            raise ConnectionError(f"{error} after {len(data)} bytes") from error
        head, _, body = data.partition(b"\r\n\r\n")
        return self._finish(head.decode("latin-1"), body)

    def _finish(self, head: str, body: bytes) -> _Answer:
        assert self._socket
        status, *lines = head.split("\r\n")
        fields = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}
        missing = int(fields.get("content-length", "0")) - len(body)
        while missing > 0:
            try:
                data = _receive(self._socket)
            except (ConnectionError, EOFError) as error:
                raise ConnectionError(f"{error}, {missing} bytes short of a body") from error
            body += data
            missing -= len(data)
        if status.split()[1:2] != ["200"]:
            raise ValueError(f"answered with {status}")
        return _Answer(_who(fields, body), fields.get("connection", "").lower() == "close")


@dataclass(frozen=True)
class _Answer:
    server: str
    last: bool  # the server said that it closes after this


class _Crossed(Exception):
    pass


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError("the server closed the connection")
    return data


def _closed(connection: socket.socket) -> bool:
    """Whether there is anything to read on an idle connection: it can only be its end. Not by
    MSG_DONTWAIT: Python waits for a socket that has a time-out before it calls recv at all."""
    return bool(select.select([connection], [], [], 0)[0])


def _who(fields: dict[str, str], body: bytes) -> str:
    """Who answered: the Server field, and the version that tests/tools/web.c writes in its body."""
    words = body[:200].decode("latin-1").split() if body.startswith(b"pid=") else []
    return " ".join([fields.get("server", "?"), *(w for w in words if w.startswith("version="))])
