# SPDX-License-Identifier: MIT
"""A machine for tests: molt as PID 1 in namespaces, on throw-away images over the host's files.

An image is a read-only overlay of a small tree of its own over the host's root, so it is a complete
Debian within a millisecond and a mount of its own. Everything happens below one cgroup of the test's
own, never above: what molt freezes is its own tree.
"""
import ctypes
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("MOLT_BUILD", TOP / "build")).resolve()
counter = itertools.count()


def wait_until(condition, timeout=10.0, what="the condition"):
    """Polls until condition() is true and returns it; a deadline that passes fails loudly."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {timeout} s")
        time.sleep(0.005)


def cgroup2_root():
    """The directory of this process's own cgroup in the v2 hierarchy."""
    for line in open("/proc/self/mounts"):
        _, target, fstype = line.split()[:3]
        if fstype == "cgroup2":
            own = next(l for l in open("/proc/self/cgroup") if l.startswith("0::"))[3:].strip()
            return target + own.rstrip("/")
    raise RuntimeError("no cgroup2 file system is mounted: the tests need one")


class Image:
    """A tree of files to be laid over the host's."""

    def __init__(self, directory, version, molt=None):
        self.directory = pathlib.Path(directory)
        self.version = version
        for place in ("usr/sbin", "usr/bin", "etc/molt/system", "etc/molt/init.conf.d", "new"):
            (self.directory / place).mkdir(parents=True)
        self.copy(molt or BUILD / "molt", "usr/sbin/init")
        self.copy(BUILD / "initctl", "usr/bin/initctl")
        self.write("etc/os-release", f'PRETTY_NAME="Image {version}"\nVERSION_ID="{version}"\n')
        self.write("etc/fstab", "")
        self.write("etc/hostname", "molt-test\n")
        # The host's own services are none of the test's business.
        self.conf(services=[])

    def place(self, path):
        """Where that path of the image is: "/etc/x" and "etc/x" alike, and never the host's own."""
        return self.directory / str(path).lstrip("/")

    def copy(self, source, path):
        target = self.place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        return target

    def write(self, path, text, mode=0o644):
        target = self.place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return target

    def conf(self, services=(), **sections):
        """Writes init.conf. After a commit the old generation is let go at once, so that a test can look at what is
        left of it: the window for a rollback has tests of its own (test_commit.py)."""
        sections["Upgrade"] = {"RollbackWindowSec": "0"} | sections.get("Upgrade", {})
        lines = ["[Boot]"] + [f"Services={name}" for name in services]
        for section, keys in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key}={value}" for key, value in keys.items()]
        self.write("etc/molt/init.conf", "\n".join(lines) + "\n")

    def service(self, name, text):
        self.write(f"etc/molt/system/{name}.service", text)


class Machine:
    """One running molt. Use as a context manager, or stop() it."""

    def __init__(self, tmp, images=("one", "two"), molt=None, arguments=("molt.debug",), shared=False,
                 writable=(), environment=None, slave=False, skip=("sysusers", "tmpfiles"), ignored=()):
        """`images`: their names; the first is booted. `writable`: those that can be written to.
        `slave`: its root mount is one of a mount that the process which started it has.
        `environment`: of the first life of PID 1. `skip`: stages of the boot that take their time, and are no
        business of a test that is not about them. `ignored`: signals that PID 1 is executed with as ignored."""
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="machine-", dir=tmp))
        self.images = {name: Image(self.tmp / "images" / name, name, molt) for name in images}
        self.first = images[0]
        self.share = self.tmp / "share"
        self.share.mkdir()
        self.arguments = list(arguments)
        self.skip = list(skip)
        self.shared = shared
        self.slave = slave
        self.writable = list(writable)
        self.environment = {"TERM": "linux"} | (environment or {})
        self.ignored = [int(number) for number in ignored]
        self.process = None
        self.pid = None
        self.cgroup = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, wait=True):
        self.cgroup = pathlib.Path(cgroup2_root()) / f"molt-test-{os.getpid()}-{next(counter)}"
        self.cgroup.mkdir()
        (self.tmp / "root").mkdir()
        arguments = self.arguments + ([f"molt.skip={','.join(self.skip)}"] if self.skip else [])
        spec = {
            "workdir": str(self.tmp), "share": str(self.share), "cgroup": str(self.cgroup),
            "first": self.first, "arguments": arguments, "shared": self.shared, "slave": self.slave,
            "writable": self.writable, "environment": self.environment, "ignored": self.ignored,
            "images": {name: str(image.directory) for name, image in self.images.items()},
        }
        self.process = subprocess.Popen([sys.executable, str(HERE / "launch.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(spec))
        self.process.stdin.close()
        line = self.process.stdout.readline()
        if not line.strip():
            raise AssertionError(f"launch failed: {self.process.stderr.read()}; exit code {self.process.wait(30)}; "
                                 f"the cgroup: {sorted(p.name for p in self.cgroup.parent.glob('molt-test-*'))}")
        self.pid = int(line)
        if wait:
            wait_until(self.is_up, what="molt's control socket")
        return self

    def path(self, inside):
        """A path of the machine, as the test process can open it."""
        return pathlib.Path(f"/proc/{self.pid}/root") / str(inside).lstrip("/")

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"molt ended: {self.process.returncode} {self.process.stderr.read()}")
        if not self.path("/run/molt/control").exists():
            return False
        # Until then it answers, but refuses to exec itself: an upgrade would be "busy".
        return any(text in self.log() for text in ("Z booted\n", ": a root shell on "))

    # Running programs inside

    def _join_tree(self, name):
        """For a child about to enter: a cgroup in the tree, as every process of the machine has one."""
        directory = self.cgroup / "tree" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").write_text(str(os.getpid()))

    def popen(self, *argv, cgroup="session", **options):
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.STDOUT)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("text", True)
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "--"]
        return subprocess.Popen(enter + [str(a) for a in argv], preexec_fn=lambda: self._join_tree(cgroup),
                                **options)

    def run(self, *argv, timeout=60, check=True, **options):
        process = self.popen(*argv, **options)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            try:
                output, _ = process.communicate(timeout=2)
            except subprocess.TimeoutExpired:  # a child of it has its output open still, frozen perhaps
                output = "(unknown)"
            raise AssertionError(f"{argv} did not end within {timeout} s; it said: {output}\n{self.report()}")
        result = subprocess.CompletedProcess(argv, process.returncode, output)
        if check and result.returncode != 0:
            raise AssertionError(f"{argv} exited with {result.returncode}: {output}\n{self.report()}")
        return result

    def initctl(self, *argv, **options):
        return self.run("/usr/bin/initctl", *argv, **options)

    def json(self, *argv, **options):
        return json.loads(self.initctl("--json", *argv, stderr=subprocess.DEVNULL, **options).stdout)

    def upgrade(self, image, *options, check=True, timeout=60):
        """Upgrades and returns (exit code, events)."""
        result = self.initctl("upgrade", "--json", *options, f"/run/images/{image}", check=False, timeout=timeout)
        events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        if check and result.returncode != 0:
            raise AssertionError(f"upgrade to {image}: {result.stdout}\n{self.report()}")
        return result.returncode, events

    def image(self):
        """Which image a process of the machine sees now."""
        return self.run("sed", "-n", "s/VERSION_ID=//p", "/etc/os-release").stdout.strip().strip('"')

    def unit(self, name):
        status = self.json("status", name, check=False)
        if not status.get("services"):
            raise AssertionError(f"{status}\n{self.report()}")
        return status["services"][0]

    def wait_state(self, name, state="running", timeout=10.0):
        """Its status once it is there; a service that is not loaded yet is waited for too."""
        def reached():
            units = self.json("status", name, check=False).get("services")
            return units and units[0]["state"] == state and units[0]

        return wait_until(reached, timeout, f"{name} {state}")

    # Looking from outside

    def cgroups(self, below=""):
        """The directories of the tree (or of one cgroup in it), itself first. Not by rglob(): that fails when one
        goes away while it looks, and instances come and go."""
        return [pathlib.Path(path) for path, _, _ in os.walk(self.cgroup / "tree" / below)]

    def pids(self):
        """Host pids of everything in the tree."""
        found = []
        for procs in (d / "cgroup.procs" for d in self.cgroups()):
            try:
                found += [int(pid) for pid in procs.read_text().split()]
            except OSError:
                pass
        return found

    def service_pids(self, name):
        found = []
        for procs in (d / "cgroup.procs" for d in self.cgroups(f"{name}.service")):
            try:
                found += [int(pid) for pid in procs.read_text().split()]
            except OSError:
                pass
        return found

    def log(self):
        try:
            return self.path("/run/molt/init.log").read_text()
        except OSError as error:
            return f"(no log: {error})"

    def report(self):
        console = ""
        try:
            console = self.path("/run/console").read_text()
        except OSError:
            pass
        return f"--- init.log\n{self.log()[-6000:]}\n--- console\n{console[-2000:]}"

    def mount_id(self, pid, link="root"):
        return mount_id(f"/proc/{pid}/{link}")

    def stop(self):
        if self.process and self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        if self.cgroup and self.cgroup.exists():
            # Who has only entered from outside does not end with PID 1, which in turn waits for their children.
            (self.cgroup / "cgroup.kill").write_text("1")
        if self.process:
            self.process.wait(timeout=30)
            self.process.stdout.close()
            self.process.stderr.close()
        if self.cgroup and self.cgroup.exists():
            wait_until(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text(), 30,
                       "the end of the machine's processes")
            for directory in sorted((path for path, _, _ in os.walk(self.cgroup)), key=len, reverse=True):
                os.rmdir(directory)
        shutil.rmtree(self.tmp, ignore_errors=True)


class Statx(ctypes.Structure):
    _fields_ = [("head", ctypes.c_uint8 * 0x90), ("mnt_id", ctypes.c_uint64), ("tail", ctypes.c_uint8 * 0x68)]


def mount_id(path):
    """STATX_MNT_ID of what a path (or magic link) leads to."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = Statx()
    if libc.statx(-100, str(path).encode(), 0x800 | 0x4000, 0x1000, ctypes.byref(result)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return result.mnt_id
