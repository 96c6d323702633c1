# SPDX-License-Identifier: MIT
"""Starts a molt as PID 1 of namespaces of its own, on an image of its own.

Run as a program of its own (the test process must keep its namespaces): reads one JSON object from
standard input and never returns before the PID 1 it started has ended. Its exit code says how:
128 + signal, where reboot(2) in a PID namespace ends init by SIGINT (power off, halt) or SIGHUP
(reboot).
"""
import ctypes
import json
import os
import select
import shutil
import signal
import sys

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1, 2, 4, 4096, 16384, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, fstype: str, flags: int = 0, options: str = "") -> None:
    check(libc.mount(source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags),
                     options.encode() or None), f"mount {fstype} on {target}")


def make_root(spec: dict) -> None:
    """The first image becomes the root, with /run, /var, /home and /tmp as mounts of their own, and
    every image of the test at /run/images/NAME."""
    base = spec["workdir"]
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    copy_layers(spec)
    root = os.path.join(base, "root")
    for name in spec["images"]:
        if name == spec["first"]:
            mount_image(spec, name, root)
    for target, mode in (("run", "0755"), ("var", "0755"), ("home", "0755"), ("tmp", "1777")):
        mount("tmpfs", os.path.join(root, target), "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    for name in spec["images"]:
        os.makedirs(os.path.join(root, "run/images", name))
        mount_image(spec, name, os.path.join(root, "run/images", name))
    os.makedirs(os.path.join(root, "run/share"))
    mount(spec["share"], os.path.join(root, "run/share"), "none", MS_BIND)
    for directory in ("var/log", "var/lib", "var/tmp", "run/lock"):
        os.makedirs(os.path.join(root, directory), exist_ok=True)


def copy_layers(spec: dict) -> None:
    """Onto a file system of their own: overlayfs wants no layer inside another, and "/" is one."""
    layers = os.path.join(spec["workdir"], "layers")
    os.makedirs(layers)
    mount("tmpfs", layers, "tmpfs", 0, "mode=0755")
    for name, tree in spec["images"].items():
        shutil.copytree(tree, os.path.join(layers, name), symlinks=True)


def mount_image(spec: dict, name: str, target: str) -> None:
    layers = os.path.join(spec["workdir"], "layers")
    options = f"lowerdir={layers}/{name}:/"
    if name not in spec["writable"]:
        mount("image-" + name, target, "overlay", MS_RDONLY, options)
        return
    # Mounted twice for one image (as the root and below /run/images), yet one file system each.
    number = len(os.listdir(layers))
    upper, work = f"{layers}/upper-{number}", f"{layers}/work-{number}"
    os.mkdir(upper)
    os.mkdir(work)
    mount("image-" + name, target, "overlay", 0, f"{options},upperdir={upper},workdir={work}")


def enter_root(spec: dict) -> None:
    root = os.path.join(spec["workdir"], "root")
    if spec["slave"]:  # as a container manager has it: the master stays in its own name space
        mount("none", root, "none", MS_SHARED)
        check(libc.unshare(CLONE_NEWNS), "unshare")
        mount("none", root, "none", MS_SLAVE)
    os.chdir(root)
    check(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/")
    if spec["shared"]:  # after the pivot, which refuses a shared root
        mount("none", "/", "none", MS_REC | MS_SHARED)


def become_init(spec: dict) -> None:
    make_root(spec)
    enter_root(spec)
    log = os.open("/run/console", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open("/dev/null", os.O_RDONLY) if os.path.exists("/dev/null") else log
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    # What this process has ignored by chance (SIGPIPE, as all of Python; SIGINT, in the background) is none of the test's business.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in spec["ignored"] else signal.SIG_DFL)
    os.execve("/sbin/init", ["init"] + spec["arguments"], spec["environment"])


def open_procs(cgroup: str) -> int:
    try:
        return os.open(os.path.join(cgroup, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"cannot open the cgroup {cgroup}: {error.strerror}") from error


def wait(child: int, parent: int, name: str) -> None:
    """Until it ends, or the test does that has begun it (its end of our standard output is closed then): it leaves
    nothing behind. `parent`: of its cgroup `name`."""
    pidfd = os.pidfd_open(child)
    waiter = select.poll()
    waiter.register(pidfd, select.POLLIN)
    waiter.register(1, 0)
    if pidfd in dict(waiter.poll()):
        return

    def opener(path: str, flags: int) -> int:
        return os.open(f"{name}/{path}", flags, dir_fd=parent)

    with open("cgroup.kill", "w", opener=opener) as file:
        file.write("1")
    with open("cgroup.events", opener=opener) as events:
        waiter = select.poll()
        waiter.register(events, select.POLLPRI)
        while "populated 0" not in events.read():
            waiter.poll(1000)
            events.seek(0)
    for _, directories, _, above in os.fwalk(name, topdown=False, dir_fd=parent):
        for directory in directories:
            os.rmdir(directory, dir_fd=above)
    os.rmdir(name, dir_fd=parent)


def main() -> int:
    spec = json.load(sys.stdin)
    # Both now: pivot_root(2) in the child takes us along to the new root, whenever that is.
    inside, outside = open_procs(spec["cgroup"]), open_procs(os.path.dirname(spec["cgroup"]))
    parent = os.open(os.path.dirname(spec["cgroup"]), os.O_RDONLY | os.O_DIRECTORY)
    os.write(inside, b"0")
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID
                       | CLONE_NEWNET), "unshare")
    # The network name space begins with loopback down: bringing it up is init's work.
    child = os.fork()
    if child == 0:
        try:
            # A test that dies must not leave a machine behind.
            libc.prctl(1, signal.SIGKILL)
            become_init(spec)
        except BaseException as error:
            print(f"launch: {error}", file=sys.stderr, flush=True)
        os._exit(99)
    # Our own place in the cgroup would keep it populated.
    os.write(outside, b"0")
    print(child, flush=True)
    wait(child, parent, os.path.basename(spec["cgroup"]))
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
