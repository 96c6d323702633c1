# SPDX-License-Identifier: MIT
"""The test's side of tests/seam: what PID 1's system calls are to meet, and which it made."""
import ctypes
import errno
import mmap
import shutil
from collections import namedtuple

from machine import BUILD, wait_until

INIT, CHILDREN = 1, 2
COUNT, FAIL, CRASH, HOLD, EXIT, EXIT_AFTER, MUTE, STUCK = range(8)
ERRORS = {1: errno.ENOMEM, 2: errno.EIO, 4: errno.EPERM, 8: errno.EBUSY}
ANY = -1  # as a site: within a library, which is elsewhere in each life
EVERYWHERE = -2  # as a site: whoever makes that call
AWAY = "usr/lib/molt-seam-away.so"
MAGIC, LOG_MAX, NAMES_MAX = 0x6d6f6c74, 65536, 128

Call = namedtuple("Call", "name errors site")


class _Logged(ctypes.Structure):
    _fields_ = [("name", ctypes.c_uint16), ("errors", ctypes.c_uint16), ("site", ctypes.c_int32)]


class _Seam(ctypes.Structure):
    _fields_ = [("magic", ctypes.c_uint32), ("armed", ctypes.c_uint32), ("who", ctypes.c_uint32),
                ("mode", ctypes.c_uint32), ("argument", ctypes.c_int32), ("hit", ctypes.c_uint32),
                ("held", ctypes.c_uint32), ("released", ctypes.c_uint32), ("nth", ctypes.c_uint64),
                ("name", ctypes.c_int32), ("site", ctypes.c_int32), ("count", ctypes.c_uint64),
                ("n_meant", ctypes.c_uint64), ("again", ctypes.c_uint64), ("lives", ctypes.c_uint32), ("n_names", ctypes.c_uint32),
                ("names", ctypes.c_char * 24 * NAMES_MAX), ("log", _Logged * LOG_MAX)]


class Seam:
    """Of one machine: made before it starts."""

    def __init__(self, machine):
        shutil.copy2(BUILD / "tools/seam.so", machine.share / "seam.so")
        for image in machine.images.values():
            image.copy(BUILD / "tools/seam-away.so", AWAY)
        path = machine.share / "seam"
        path.write_bytes(b"\0" * ctypes.sizeof(_Seam))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), ctypes.sizeof(_Seam))
        self.page = _Seam.from_buffer(self.map)
        self.page.magic = MAGIC
        machine.environment |= {"LD_PRELOAD": f"/run/share/seam.so /{AWAY}", "MOLT_SEAM": "/run/share/seam"}

    def arm(self, mode=COUNT, nth=0, argument=0, who=INIT, place=None, again=0):
        """`place`: (name, site) of a Call; then only calls from there count for `nth`. `again`: at that call of
        the life after a crash comes another."""
        page = self.page
        page.armed = 0
        page.mode, page.nth, page.argument, page.who, page.again = mode, nth, argument, who, again
        page.name, page.site = (self.names().index(place[0]), place[1]) if place else (ANY, ANY)
        page.count = page.n_meant = page.hit = page.held = page.released = 0
        page.armed = 1

    def mute(self, tid, deaf=False):
        """That task, as PID 1 calls it, does not answer its release; deaf: it cannot be given its registers either."""
        self.arm(MUTE, argument=int(deaf))
        self.page.armed = 0
        self.page.site = tid
        self.page.armed = 1

    def disarm(self):
        self.page.armed = 0

    @property
    def hit(self):
        return bool(self.page.hit)

    @property
    def lives(self):
        """How many programs have been PID 1 so far: one more for each exec."""
        return self.page.lives

    def names(self):
        return [bytes(n).split(b"\0")[0].decode() for n in self.page.names[:self.page.n_names]]

    def calls(self):
        names = self.names()
        return [Call(names[c.name], c.errors, c.site) for c in self.page.log[:min(self.page.count, LOG_MAX)]]

    def wait_held(self, timeout=10):
        wait_until(lambda: self.page.held, timeout, "the call that is held")

    def release(self):
        self.page.released = 1


def errors_of(call):
    return [number for bit, number in ERRORS.items() if call.errors & bit]
