# SPDX-License-Identifier: MIT
"""Tells a person who waits what is going on, and since when.

Every line carries the seconds since the program began, so that a slow step shows itself. A step
that takes longer than BEAT seconds says that it still runs: silence looks like a hang, and a CI
that hears nothing may stop the job.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

BEAT = 15.0

_began = time.monotonic()


def say(text: str) -> None:
    """One line of progress on standard error; standard output is for reports."""
    print(f"[{time.monotonic() - _began:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Announces a step, beats while it runs, and says how long it took."""
    begin = time.monotonic()
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(text, begin, ended), daemon=True)
    say(f"{text} ...")
    beat.start()
    try:
        yield
    except BaseException as error:
        how = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"
        say(f"{text}: {how} after {time.monotonic() - begin:.1f} s")
        raise
    finally:
        ended.set()
        beat.join()
    say(f"{text}: done in {time.monotonic() - begin:.1f} s")


def _beat(text: str, begin: float, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        say(f"{text}: still at it, {time.monotonic() - begin:.0f} s")
