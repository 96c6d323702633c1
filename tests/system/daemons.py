# SPDX-License-Identifier: MIT
"""Daemons that answer for a mount, as programs for a machine: a FUSE server that speaks to /dev/fuse itself, and an
automounter that speaks to the kernel's autofs.

Each prints "mounted" when it is there, and a line for each request that somebody waits for.
"""
import subprocess

# What its one file says, "hello" in the root directory (or the root itself, if that is a file).
SERVED = "served\n"

# fuse.py PLACE [user=N] [file] [hang], or hangs once there is a /run/hang
FUSE = """
import ctypes, os, stat, struct, sys
place, options = sys.argv[1], sys.argv[2:]
user = next((int(o[5:]) for o in options if o.startswith("user=")), None)
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 28, 29
DATA = b"served\\n"
fd = os.open("/dev/fuse", os.O_RDWR)
mode = stat.S_IFREG if "file" in options else stat.S_IFDIR
text = "fd=%d,rootmode=%o,user_id=%d,group_id=%d" % (fd, mode, user or 0, user or 0) + ("" if user else ",allow_other")
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"test", place.encode(), b"fuse.test", 0, text.encode()) == 0, os.strerror(ctypes.get_errno())
if user:
    os.setresuid(user, user, user)

def attr(node):
    kind = mode if node == 1 else stat.S_IFREG
    bits = kind | (0o755 if stat.S_ISDIR(kind) else 0o644)
    return struct.pack("<6Q10I", node, len(DATA), 1, 0, 0, 0, 0, 0, 0, bits, 1, user or 0, user or 0, 0, 4096, 0)

def answer(op, node, body):
    if op == INIT:
        return struct.pack("<IIIIHHI", 7, 31, 65536, 0, 12, 10, 65536).ljust(64, bytes(1))
    if op == LOOKUP:
        return struct.pack("<QQQQII", 2, 0, 0, 0, 0, 0) + attr(2) if body.rstrip(bytes(1)) == b"hello" else -2
    if op == GETATTR:
        return struct.pack("<QII", 0, 0, 0) + attr(node)
    if op in (OPEN, OPENDIR):
        return bytes(16)
    if op == READ:
        offset, size = struct.unpack_from("<8xQI", body)
        return DATA[offset:offset + size]
    if op == READDIR:
        return b"" if struct.unpack_from("<8xQ", body)[0] else struct.pack("<QQII", 2, 1, 5, 8) + b"hello".ljust(8, bytes(1))
    if op == STATFS:
        return bytes(80)
    return b"" if op in (RELEASE, FLUSH, RELEASEDIR) else -38

while True:
    try:
        packet = os.read(fd, 1 << 20)
    except OSError:
        break  # unmounted
    _, op, unique, node = struct.unpack_from("<IIQQ", packet)
    if op in (FORGET, 36, 42):
        continue
    if op != INIT:
        print("asked", flush=True)
        if "hang" in options or os.path.exists("/run/hang"):
            continue
    got = answer(op, node, packet[40:])
    error, body = (got, b"") if isinstance(got, int) else (0, got)
    try:
        os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
    except OSError:
        pass  # who asked has ended
    if op == INIT:
        print("mounted", flush=True)
"""

# autofs.py PLACE direct|indirect [hold]: mounts a tmpfs with the file "hello" on it; at once, or with "hold" when it is
# told to by a line.
AUTOFS = """
import ctypes, fcntl, os, struct, sys
place, kind, hold = sys.argv[1], sys.argv[2], "hold" in sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, fstype, options):
    if libc.mount(source.encode(), target.encode(), fstype.encode(), 0, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)
os.setpgid(0, 0)
packets, kernel = os.pipe()
mount("auto", place, "autofs", f"fd={kernel},pgrp={os.getpgrp()},minproto=5,maxproto=5,{kind}")
os.close(kernel)
control = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
print("mounted", flush=True)
while True:
    packet = os.read(packets, 4096)
    if not packet:
        break
    _, what, token = struct.unpack_from("<iiI", packet)
    length = struct.unpack_from("<I", packet, 40)[0]
    name = packet[44:44 + length].decode()
    print("asked", flush=True)
    if hold:
        sys.stdin.readline()
    target = place if kind == "direct" else place + "/" + name
    try:
        if kind == "indirect":
            os.mkdir(target)
        mount("automounted", target, "tmpfs", "")
        with open(target + "/hello", "w") as file:
            file.write("served\\n")
        fcntl.ioctl(control, 0x9360, token)
    except OSError as error:
        print(error, flush=True)
        fcntl.ioctl(control, 0x9361, token)
"""


class Daemon:
    """One of them. `inside` the tree it stands still in the blackout; else it is what SystemStorage= is for."""

    def __init__(self, machine, program, place, *options, inside=False):
        self.machine = machine
        self.place = place
        self.cgroup = "daemon" if inside else "../outside"
        self.process = machine.popen("/usr/bin/python3", "-c", program, place, *options, cgroup=self.cgroup, stdin=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
        line = self.process.stdout.readline()
        assert line == "mounted\n", line + self.process.stdout.read()

    def asked(self):
        """Waits until it has been."""
        line = self.process.stdout.readline()
        assert line == "asked\n", line

    def answer(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        """How often it was asked, beside what was waited for; none of it may have gone wrong."""
        self.machine.run("umount", "-l", self.place)
        (self.machine.cgroup / "tree" / self.cgroup / "cgroup.kill").write_text("1")
        lines = self.process.communicate(timeout=10)[0].splitlines()
        assert set(lines) <= {"asked"}, lines
        return len(lines)
