# SPDX-License-Identifier: MIT
"""What has to be there, and is not, or cannot be."""

from __future__ import annotations

import subprocess


class Missing(Exception):
    """The text says what is not there, and what to do about it."""


def run_zstd(options: list[str], data: bytes, why: str) -> bytes:
    try:
        return subprocess.run(["zstd", *options], input=data, stdout=subprocess.PIPE,
                              check=True).stdout
    except FileNotFoundError:
        raise Missing(f"there is no zstd {why}: install it") from None
