# SPDX-License-Identifier: MIT
"""The QEMU machine protocol, as much of it as a launcher needs: commands, and the last events."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any


TIMEOUT = 30.0


class Qmp:
    """A connection to QEMU's QMP socket."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._socket = connect(path, deadline)
        self._read(deadline)  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Runs a command and returns what it returned."""
        deadline = time.monotonic() + TIMEOUT
        request = {"execute": command, "arguments": arguments or {}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read(deadline)
            if "error" in answer:
                raise RuntimeError(f"QMP {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
            self.events.append(answer)

    def monitor(self, line: str) -> str:
        """Runs a line of the human monitor, for what QMP does not know."""
        return str(self.execute("human-monitor-command", {"command-line": line}))

    def drain(self) -> None:
        """Takes in events until QEMU closes the connection."""
        try:
            while True:
                self.events.append(self._read(time.monotonic() + 5))
        except (OSError, EOFError, TimeoutError):
            return

    def close(self) -> None:
        self._socket.close()

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            data = self._socket.recv(65536)
            if not data:
                raise EOFError("QEMU closed its QMP socket")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def connect(path: Path, deadline: float) -> socket.socket:
    """Connects to a unix socket that QEMU is about to make."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens on {path}") from None
            time.sleep(0.02)
