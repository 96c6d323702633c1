# SPDX-License-Identifier: MIT
"""What differs between the machines of QEMU, by Debian's name of the architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """`console` is the kernel's name of the first serial line, `agent` that of the second."""

    qemu: str
    machine: str
    cpu: str
    console: str
    agent: str
    agent_device: list[str]  # QEMU's options for the second serial line, on chardev "agent"
    triplet: str  # of Debian's libraries and tools
    loader: str  # the program that loads others, by the path that is written in them


BOARDS = {
    # -cx16: with it, 6.12 kernels oops at random under QEMU 7.2's translator.
    "amd64": Board("qemu-system-x86_64", "q35", "max,-cx16", "ttyS0", "ttyS1",
                   ["-serial", "chardev:agent"], "x86_64-linux-gnu",
                   "lib64/ld-linux-x86-64.so.2"),
    # The plainest processor is translated fastest. This machine has only one serial line of its own.
    "arm64": Board("qemu-system-aarch64", "virt", "cortex-a57", "ttyAMA0", "ttyS0",
                   ["-device", "pci-serial,chardev=agent"], "aarch64-linux-gnu",
                   "lib/ld-linux-aarch64.so.1"),
}

# arm64 with all that QEMU knows: SVE, BTI, pointer authentication by a hash that is cheap to emulate.
ARM64_EVERYTHING = "max,pauth-impdef=on"
