# SPDX-License-Identifier: MIT
"""A machine's console, with a keyboard: what it prints is read as it comes, and lines can be typed.

The first serial line. All of it is also in the console's log (qemu/machine.py), which is there when
this is not.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

Failure = Callable[[str], Exception]


class Console:
    """One end of a serial line. A thread reads: a line that nobody reads stops the guest."""

    def __init__(self, connection: socket.socket, failure: Failure) -> None:
        self._socket = connection
        self._failure = failure
        self._text = ""
        self._seen = 0  # of the text: where the next expect() begins to look
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def expect(self, text: str, timeout: float = 60.0) -> None:
        """Waits until the guest has printed the text, after what was last expected."""
        with self._changed:
            self._changed.wait_for(lambda: self._find(text) or self._ended, timeout)
            end = self._find(text)
            if not end:
                why = "the machine ended" if self._ended else f"{timeout:.0f} s passed"
                raise self._failure(f"{why}, and the console never said {text!r}")
            self._seen = end

    def type(self, line: str) -> None:
        """Types a line and the return key."""
        self._socket.sendall(line.encode() + b"\r")

    def send(self, keys: bytes) -> None:
        """Presses keys, as they are."""
        self._socket.sendall(keys)

    def text(self) -> str:
        """All that was printed so far."""
        with self._changed:
            return self._text

    def _find(self, text: str) -> int:
        """Where the text ends, 0 if it is not there."""
        begin = self._text.find(text, self._seen)
        return begin + len(text) if begin >= 0 else 0

    def _read(self) -> None:
        try:
            while data := self._socket.recv(4096):
                with self._changed:
                    self._text += data.decode(errors="replace")
                    self._changed.notify_all()
        except OSError:
            pass  # the machine is gone: whoever waits is told below
        with self._changed:
            self._ended = True
            self._changed.notify_all()
