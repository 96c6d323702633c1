# SPDX-License-Identifier: MIT
"""Programs that are run to their end, and none of which outlives this one.

Each has a session of its own and is ended with everything it has started: a Ctrl-C reaches only
us, and then takes down in order what a terminal would have shot at all at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

GENTLY = signal.SIGINT  # not SIGTERM: fakeroot would leave its daemon behind
PATIENCE = 10.0  # for a program to clean up behind itself before it is killed

_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_stopped = False


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """As subprocess.run(), with texts, and what it prints is captured unless the options say
    otherwise. Safe in threads, where stop_all() ends it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with _lock:
        if _stopped:
            raise RuntimeError(f"interrupted before {command[0]}")
        child = subprocess.Popen(command, text=True, start_new_session=True, **options)
        _running.add(child)
    try:
        output, errors = child.communicate()
    except BaseException:
        _end(child)
        raise
    finally:
        with _lock:
            _running.discard(child)
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def check(command: Sequence[str], **options: Any) -> None:
    """Runs what must succeed: RuntimeError with what it complained of."""
    done = run(command, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or f'exit {done.returncode}'}")


def stop_all() -> None:
    """Tells all that run to end; whoever waits for one sees it fail. No other is started."""
    global _stopped
    with _lock:
        _stopped = True
        for child in _running:
            _signal(child, GENTLY)


def exit_on_signals() -> None:
    """Ctrl-C and SIGTERM end this program, with all that a `with` or `finally` has to clear up. A
    second one has no effect: who is impatient would leave behind what the first would have not."""
    def leave(number: int, _: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)


def _end(child: subprocess.Popen[str]) -> None:
    _signal(child, GENTLY)
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    _signal(child, signal.SIGKILL)
    child.wait()


def _signal(child: subprocess.Popen[str], number: signal.Signals) -> None:
    """To its whole session, which can be longer there than itself."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass
