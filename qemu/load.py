# SPDX-License-Identifier: MIT
"""Load from outside, and what it saw: HTTP over new and over kept connections, and long streams.

Used by the demo against a machine and by the system tests against servers on the loopback; nothing
here knows of either. In code:

    load = Load([Http("nginx, kept", "127.0.0.1", 80, keep_alive=True)],
                [Streams("stream", "127.0.0.1", 9000)])
    load.start()
    load.wait_flowing(30)
    ...
    stats = load.stop()
    assert stats.failed == 0 and stats.longest_gap() < 1.0

or by hand: python3 -m qemu.load --new HOST:PORT --keep HOST:PORT --stream HOST:PORT --seconds 10
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from qemu.http_client import Http, HttpClient, HttpStats
from qemu.stream_client import StreamClient, Streams, StreamStats

__all__ = ["Http", "Load", "LoadStats", "Streams"]


@dataclasses.dataclass
class LoadStats:
    """Everything all clients saw. Times are time.monotonic()'s, durations seconds."""

    begin: float
    end: float
    http: list[HttpStats]
    streams: list[StreamStats]

    @property
    def requests(self) -> int:
        """Requests that were answered as they should be, or that failed: all that mattered."""
        return sum(h.ok + h.failed for h in self.http)

    @property
    def failed(self) -> int:
        """Requests that failed, and streams that were cut or garbled."""
        return sum(h.failed for h in self.http) + sum(s.failed for s in self.streams)

    @property
    def problems(self) -> list[str]:
        """What went wrong, one line each."""
        return [p for group in self._groups() for p in group.problems]

    def longest_gap(self, begin: float = float("-inf"), end: float = float("inf")) -> float:
        """The longest time that any client went without an answer, within the window."""
        return max((group.longest_gap(begin, end) for group in self._groups()), default=0.0)

    def _groups(self) -> list[HttpStats | StreamStats]:
        return [*self.http, *self.streams]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: sums and not every moment."""
        return {
            "seconds": round(self.end - self.begin, 3),
            "requests": self.requests,
            "failed": self.failed,
            "longest_gap": round(self.longest_gap(), 4),
            "http": [h.as_dict() for h in self.http],
            "streams": [s.as_dict() for s in self.streams],
            "problems": self.problems,
        }


class Load:
    """All the clients together."""

    def __init__(self, http: Sequence[Http] = (), streams: Sequence[Streams] = ()) -> None:
        self._http = [(spec, [HttpClient(spec, n) for n in range(spec.clients)]) for spec in http]
        self._streams = [(spec, [StreamClient(spec, n) for n in range(spec.clients)])
                         for spec in streams]
        self._begin = 0.0

    def start(self) -> None:
        self._begin = time.monotonic()
        for client in self._clients():
            client.start()

    def wait_flowing(self, timeout: float, answers: int = 3) -> None:
        """Waits until every client has had some answers; raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while any(client.answers < answers for client in self._clients()):
            if time.monotonic() > deadline:
                stats = self.stats()
                raise TimeoutError(f"not every client is served after {timeout:.0f} s: "
                                   f"{'; '.join(stats.problems[:5]) or 'no answer'}")
            time.sleep(0.05)

    def stats(self) -> LoadStats:
        """What was seen so far."""
        return LoadStats(
            self._begin, time.monotonic(),
            [HttpStats(spec.name, [c.seen for c in clients]) for spec, clients in self._http],
            [StreamStats(spec.name, [c.seen for c in clients]) for spec, clients in self._streams])

    def stop(self) -> LoadStats:
        """Lets what is in flight end, and returns what was seen. Open streams count as open."""
        end = time.monotonic()
        for client in self._clients():
            client.stop()
        for client in self._clients():
            client.join()
        return dataclasses.replace(self.stats(), end=end)

    def _clients(self) -> list[HttpClient | StreamClient]:
        groups: list[tuple[Any, Any]] = [*self._http, *self._streams]
        return [client for _, clients in groups for client in clients]


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qemu.load", description="Load, and what it saw.")
    parser.add_argument("--new", action="append", default=[], metavar="HOST:PORT",
                        help="HTTP, each request on a new connection")
    parser.add_argument("--keep", action="append", default=[], metavar="HOST:PORT",
                        help="HTTP over connections that are kept")
    parser.add_argument("--stream", action="append", default=[], metavar="HOST:PORT",
                        help="long-lived connections to tests/tools/stream.c")
    parser.add_argument("--path", default="/", help="to ask for (default: /)")
    parser.add_argument("--clients", type=int, default=2, help="of each (default: 2)")
    parser.add_argument("--pause", type=float, default=0.01,
                        help="seconds between two requests of a client (default: 0.01)")
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


def main() -> int:
    """Runs for some seconds, or until interrupted, and prints JSON. Exit 1 if anything failed."""
    options = _arguments()
    common = {"clients": options.clients, "path": options.path, "pause": options.pause}
    http = [Http(f"new {t}", *_place(t), keep_alive=False, **common) for t in options.new]
    http += [Http(f"keep {t}", *_place(t), keep_alive=True, **common) for t in options.keep]
    streams = [Streams(f"stream {t}", *_place(t), clients=options.clients) for t in options.stream]
    load = Load(http, streams)
    load.start()
    try:
        time.sleep(options.seconds)
    except KeyboardInterrupt:
        pass
    stats = load.stop()
    json.dump(stats.as_dict(), sys.stdout, indent=2)
    print()
    return 1 if stats.failed else 0


if __name__ == "__main__":
    sys.exit(main())
