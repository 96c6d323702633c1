# SPDX-License-Identifier: MIT
"""molt-initramfs(8): what it puts in, the same bytes each time, and what it says of what is not there. And what of it
stays for the way down. (That it finds roots: test_qemu_initramfs.py.)"""
import ctypes
import gzip
import lzma
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess

import pytest

from helpers import down
from machine import BUILD

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
TOOL = REPOSITORY / "conf/initramfs/molt-initramfs"
VERSION = "6.1.0-test"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
REBOOT = 128 + signal.SIGHUP
MACHINE = {"x86_64": 62, "aarch64": 183}


def module(name, machine=None, firmware=()):
    """As much of a module as anybody reads who does not load it."""
    header = b"\x7fELF\2\1\1" + bytes(9) + b"\1\0" + (machine or MACHINE[os.uname().machine]).to_bytes(2, "little")
    return header + bytes(44) + b"".join(b"\0firmware=" + f.encode() for f in firmware) + b"\0name=" + name.encode() + b"\0"


@pytest.fixture
def lab(tmp_path):
    """A kernel's modules, each packed in another way, and firmware."""
    modules = tmp_path / "modules" / VERSION
    directories = ("kernel/drivers/nvme/host", "kernel/fs/ext4", "kernel/lib", "kernel/net", "kernel/drivers/block")
    for directory in directories:
        (modules / directory).mkdir(parents=True)
    files = {
        "kernel/drivers/nvme/host/nvme.ko.xz": lzma.compress(module("nvme")),
        "kernel/drivers/nvme/host/nvme-core.ko.gz": gzip.compress(module("nvme-core")),
        "kernel/fs/ext4/ext4.ko": module("ext4", firmware=["vendor/a.bin", "vendor/b-*.bin", "vendor/none.bin"]),
        "kernel/lib/crc-t10.ko.zst": subprocess.run(["zstd", "-cq"], input=module("crc-t10"), stdout=subprocess.PIPE, check=True).stdout,
        "kernel/lib/soft.ko": module("soft"),
        "kernel/lib/sum-v2.ko": module("sum-v2"),
        "kernel/net/card.ko": module("card"),
        "modules.dep": b"kernel/drivers/nvme/host/nvme.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.gz kernel/lib/crc-t10.ko.zst\n"
                       b"kernel/drivers/nvme/host/nvme-core.ko.gz: kernel/lib/crc-t10.ko.zst\nkernel/lib/crc-t10.ko.zst:\n"
                       b"kernel/fs/ext4/ext4.ko:\nkernel/lib/soft.ko:\nkernel/lib/sum-v2.ko:\nkernel/net/card.ko:\n",
        "modules.alias": b"alias pci:v*bc01sc08i02* nvme\nalias fs-ext4 ext4\nalias pci:v0* card\n"
                         b"alias crypto-sum sum_v2\n",
        # By a name, by an alias, and by one that is nobody's here.
        "modules.softdep": b"softdep ext4 pre: soft\nsoftdep ext4 pre: crypto-sum post: crypto-hash\n",
        "modules.builtin": b"kernel/drivers/block/loop.ko\n",
    }
    for name, data in files.items():
        (modules / name).write_bytes(data)
    for name in ("vendor/a.bin", "updates/vendor/a.bin", "vendor/b-1.bin.xz", "vendor/b-2.bin", "vendor/unwanted.bin"):
        path = tmp_path / "firmware" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def run(lab, *options, output="initrd", environment=None, **more):
    arguments = {"kernel": VERSION, "modules-root": f"{lab}/modules", "firmware": f"{lab}/firmware", "molt": f"{BUILD}/molt",
                 "compress": "none", "output": f"{lab}/{output}"} | more
    return subprocess.run([str(TOOL), *(f"--{name.replace('_', '-')}={value}" for name, value in arguments.items()), *options],
                          capture_output=True, text=True, env=os.environ | (environment or {}))


def unpack(archive):
    """The archive's own headers: {path: (mode, data)}."""
    data, at, found = archive.read_bytes(), 0, {}
    while True:
        assert data[at:at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * n:at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = numbers[1], numbers[6], numbers[11]
        name = data[at + 110:at + 110 + length - 1].decode()
        begin = at + 110 + length + -(110 + length) % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, data[begin:begin + size])
        at = begin + size + -size % 4


def lay_out(files, at):
    for name, (mode, data) in sorted(files.items()):
        path = at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(mode):
            path.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            path.symlink_to(data.decode())
        else:
            path.write_bytes(data)
            path.chmod(mode & 0o777)


def test_molt_image_comes_with_its_library(lab):
    """With what it needs of busybox; and there is none without that."""
    tool = REPOSITORY / "conf/image/molt-image"
    assert run(lab, molt_image=tool).returncode == 0
    files = unpack(lab / "initrd")
    assert files["usr/sbin/molt-image"][1] == tool.read_bytes()
    assert files["usr/lib/molt/image/order.sh"][1] == (tool.parent / "order.sh").read_bytes()
    assert {"usr/bin/sed", "usr/bin/sync", "usr/bin/mv"} <= set(files)
    for options in ({"molt_image": ""}, {"molt_image": tool, "busybox": ""}):
        assert run(lab, **options).returncode == 0
        assert not [name for name in unpack(lab / "initrd") if "molt-image" in name]


def test_molt_image_chooses_with_what_is_in_it(lab):
    """A first boot is counted, and after the last try the one before boots."""
    assert run(lab, molt_image=REPOSITORY / "conf/image/molt-image").returncode == 0
    at = lab / "root"
    lay_out(unpack(lab / "initrd"), at)
    for version in ("41", "42"):
        (at / "images" / version).mkdir(parents=True)
    (at / "images/boot").write_text("42 1\n41 good\n")
    for chosen, left in (("42", "0"), ("41", "0")):
        done = subprocess.run(["chroot", str(at), "/bin/sh", "/usr/sbin/molt-image", "choose"], text=True,
                              env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "MOLT_STORE": "/images"}, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"/images/{chosen}\n", "")
        assert (at / "images/boot").read_text() == f"42 {left}\n41 good\n"


def test_what_is_in_it(lab):
    done = run(lab, f"--add={lab}/modules/{VERSION}/modules.dep:etc/added", "--verbose", load="card")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert re.search(rf"initrd: \d+\.\d MiB \(.* unpacked\): 7 modules of Linux {VERSION}, 3 files of firmware, "
                     r"1 that modules name are not there", done.stdout), done.stdout
    assert "no firmware vendor/none.bin (for ext4)\n" in done.stdout
    files = unpack(lab / "initrd")
    place = f"usr/lib/modules/{VERSION}/"
    assert files[place + "kernel/drivers/nvme/host/nvme.ko"][1] == module("nvme")
    assert files[place + "kernel/drivers/nvme/host/nvme-core.ko"][1] == module("nvme-core")
    assert files[place + "kernel/lib/crc-t10.ko"][1] == module("crc-t10")
    assert place + "kernel/lib/soft.ko" in files and place + "kernel/lib/sum-v2.ko" in files
    assert "alias crypto-sum sum_v2\n" in files[place + "modules.alias"][1].decode()
    assert ("kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko kernel/lib/crc-t10.ko\n"
            in files[place + "modules.dep"][1].decode())
    assert files[place + "modules.builtin"][1] == b"loop\n"
    assert files["etc/molt/modules"][1] == b"card\n"
    assert files["etc/added"][1].startswith(b"kernel/")
    firmware = {name: data for name, (mode, data) in files.items() if "/firmware/" in name and stat.S_ISREG(mode)}
    assert firmware == {"usr/lib/firmware/vendor/a.bin": b"updates/vendor/a.bin",
                        "usr/lib/firmware/vendor/b-1.bin.xz": b"vendor/b-1.bin.xz",
                        "usr/lib/firmware/vendor/b-2.bin": b"vendor/b-2.bin"}
    # All that it is linked to is there; and of what stays for the way down as well.
    lay_out(files, lab / "tree")
    leave = files["etc/molt/leave"][1].decode().split()
    lay_out({name: files[name] for name in leave}, lab / "left")
    for tree in (lab / "tree", lab / "left"):
        ran = subprocess.run(["chroot", tree, "/usr/sbin/molt", "--version"], capture_output=True, text=True)
        assert ran.stdout.startswith("molt "), ran.stderr
    assert (lab / "left/shutdown").readlink() == pathlib.Path("usr/sbin/molt")
    assert subprocess.run(["chroot", lab / "tree", "/bin/sh", "-c", "exit 7"]).returncode == 7


def test_only_what_is_named(lab):
    assert run(lab, modules="nvme").returncode == 0
    names = {pathlib.Path(name).name for name in unpack(lab / "initrd") if name.endswith(".ko")}
    assert names == {"nvme.ko", "nvme-core.ko", "crc-t10.ko"}
    assert run(lab, modules="none", kernel="1.2.3").returncode == 0
    assert not [name for name in unpack(lab / "initrd") if "/modules/" in name]


def test_the_same_bytes(lab):
    outputs = []
    for n, umask in enumerate((0o022, 0o077)):
        before = os.umask(umask)
        try:
            for how in ("gzip", "zstd"):
                # Small: compressing takes its time.
                assert run(lab, "--busybox=", compress=how, molt="/bin/true", output=f"{how}-{n}", environment={"PYTHONHASHSEED": str(n + 1)}).returncode == 0
        finally:
            os.umask(before)
        outputs.append([(lab / f"{how}-{n}").read_bytes() for how in ("gzip", "zstd")])
        for file in (lab / "firmware").rglob("*"):
            os.utime(file, (1, 1))
    assert outputs[0] == outputs[1]
    assert gzip.decompress(outputs[0][0])[:6] == b"070701"


def _no_dep(lab):
    (lab / "modules" / VERSION / "modules.dep").unlink()


def _gone(lab):
    (lab / "modules" / VERSION / "kernel/fs/ext4/ext4.ko").unlink()


def _damaged(lab):
    (lab / "modules" / VERSION / "kernel/drivers/nvme/host/nvme.ko.xz").write_bytes(b"not packed")


def _foreign(lab):
    other = next(number for name, number in MACHINE.items() if name != os.uname().machine)
    (lab / "modules" / VERSION / "kernel/lib/soft.ko").write_bytes(module("soft", other))


def _no_library(lab):
    data = pathlib.Path(BUILD, "molt").read_bytes()
    assert b"libmount.so.1" in data
    (lab / "broken").write_bytes(data.replace(b"libmount.so.1", b"libnount.so.1"))


def _cut(lab):
    (lab / "broken").write_bytes(pathlib.Path(BUILD, "molt").read_bytes()[:100])


MISSING = [
    (None, {"kernel": "1.2.3"}, rf"there are no modules of Linux 1.2.3: no \S+/1.2.3 \(\S+ has {VERSION}; .*--modules-root"),
    (None, {"kernel": "/none/vmlinuz"}, "there is no kernel image /none/vmlinuz"),
    (None, {"modules": "nvme nothing ext5"}, "has no module nothing, ext5$"),
    (None, {"add": "/none/file"}, "cannot add /none/file: there is no such file"),
    (None, {"molt": str(TOOL)}, "molt-initramfs is not a program: it is no ELF file"),
    (None, {"output": "/none/initrd"}, "cannot write .*/none/initrd: No such file or directory"),
    (_no_dep, {}, f"there is no \\S+/modules.dep: run depmod {VERSION}"),
    (_gone, {}, "there is no .*/ext4.ko, which modules.dep names: run depmod"),
    (_damaged, {}, "cannot unpack .*/nvme.ko.xz: it is damaged"),
    (_foreign, {}, "the kernel module kernel/lib/soft.ko are of different architectures"),
    (_no_library, {"molt": "{lab}/broken"}, r"broken needs the library libnount.so.1, which is not there \(--libraries"),
    (_cut, {"molt": "{lab}/broken"}, "broken is cut short or damaged"),
]


@pytest.mark.parametrize("spoil,options,said", MISSING, ids=[said[:30] for _, _, said in MISSING])
def test_what_is_missing_is_named(lab, spoil, options, said):
    (lab / "initrd").write_text("the one before")
    if spoil:
        spoil(lab)
    done = run(lab, **{name: value.format(lab=lab) for name, value in options.items()})
    assert done.returncode == 1 and re.search(said, done.stderr), done.stderr
    assert done.stderr.startswith("molt-initramfs: ") and done.stderr.count("\n") == 1, done.stderr
    assert (lab / "initrd").read_text() == "the one before"
    assert sorted(p.name for p in lab.iterdir() if p.name.startswith(".")) == []


def test_the_version_that_an_image_names(lab):
    image = bytearray(0x400)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x100).to_bytes(2, "little")
    image[0x300:0x300 + 40] = f"{VERSION} (who@where) #1".encode().ljust(40, b"\0")
    (lab / "bzImage").write_bytes(image)
    assert f"modules of Linux {VERSION}" in run(lab, kernel=f"{lab}/bzImage").stdout
    (lab / f"vmlinuz-{VERSION}").write_bytes(b"of another architecture")
    assert f"modules of Linux {VERSION}" in run(lab, kernel=f"{lab}/vmlinuz-{VERSION}").stdout
    (lab / "kernel").write_bytes(b"of another architecture")
    assert "say it (--kernel VERSION)" in run(lab, kernel=f"{lab}/kernel").stderr


def test_installed_and_taken_away(lab):
    def make(target):
        subprocess.run(["make", "-s", "-C", REPOSITORY, target, f"DESTDIR={lab}/root", "PREFIX=/usr", f"BUILD={BUILD}"],
                       check=True, capture_output=True)
    make("install")
    tool = lab / "root/usr/sbin/molt-initramfs"
    done = subprocess.run([tool, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--modules-root" in done.stdout
    text = (lab / "root/usr/share/man/man8/molt-initramfs.8").read_text()
    for option in re.findall(r"^ +--(\S+)", done.stdout, re.M):
        assert f"Fl -{option} " in text or f"Fl -{option}\n" in text or option == "help", f"{option} is in no manual"
    make("uninstall")
    assert [p for p in (lab / "root").rglob("*") if not p.is_dir()] == []


def open_apart(pid, path):
    """Opens a file of the machine in a copy of its mount namespace: in its own it would be in the way of umount(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = socket.socketpair()
    with here, there:
        child = os.fork()
        if child == 0:
            try:
                ns = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
                if libc.setns(ns, CLONE_NEWNS) == 0 and libc.unshare(CLONE_NEWNS) == 0 and \
                        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0:
                    socket.send_fds(there, [b"."], [os.open(path, os.O_RDONLY)])
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        here.setblocking(False)
        return socket.recv_fds(here, 1, 1)[1][0]


def test_it_lets_go_on_the_way_down(machine, lab):
    """As /shutdown in what it has left: the old root is unmounted, and it ends as it was told."""
    assert run(lab, modules="none").returncode == 0
    files = unpack(lab / "initrd")
    machine.start()
    lay_out({name: files[name] for name in files["etc/molt/leave"][1].decode().split()}, lab / "left")
    shutil.copytree(lab / "left", machine.path("/run/initramfs"), symlinks=True)
    log = open_apart(machine.process.pid, "/run/molt/init.log")
    down(machine, "reboot")
    assert machine.process.wait(60) == REBOOT
    said = os.read(log, 1 << 20).decode()
    os.close(log)
    assert "going back to the initramfs" in said and "the root is released: nothing is mounted" in said, said
    assert "still" not in said, said
