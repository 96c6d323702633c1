# SPDX-License-Identifier: MIT
"""Whether KVM really works here.

/dev/kvm can be there and open, and a guest still hang for ever in its first instruction (nested in
clouds that do not allow it). So nothing but a boot tells: the firmware is given five seconds to say
a word.
"""

from __future__ import annotations

import functools
import os
import selectors
import subprocess

PROBE_SECONDS = 5.0


@functools.cache
def works() -> bool:
    """Boots the firmware under KVM; asked once per process."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
               "-M", "q35", "-accel", "kvm", "-cpu", "max", "-m", "64M",
               "-chardev", "stdio,id=log", "-device", "isa-debugcon,iobase=0x402,chardev=log"]
    probe = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    try:
        return _says_something(probe)
    finally:
        probe.kill()
        probe.wait()


def _says_something(probe: subprocess.Popen[bytes]) -> bool:
    assert probe.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(probe.stdout, selectors.EVENT_READ)
        return bool(selector.select(PROBE_SECONDS)) and bool(os.read(probe.stdout.fileno(), 1))
