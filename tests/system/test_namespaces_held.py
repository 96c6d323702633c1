# SPDX-License-Identifier: MIT
"""Mount namespaces that no process is in: kept by a bind mount or by a descriptor. Who enters one after an upgrade finds
the new image there."""
import subprocess

import pytest
from machine import Machine
from outside import assert_thawed, last_word
from test_migrate import lay_out
from test_namespaces import Shell

pytestmark = pytest.mark.timeout(90)

PLACE = "/run/held"
# Keeps a descriptor of a namespace, and enters it when it is told to.
KEEPER = """
import ctypes, os, subprocess, sys
child = subprocess.Popen(["unshare", "-m", "sh", "-c", "mount -t tmpfs inner /mnt; echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
fd = os.open(f"/proc/{child.pid}/ns/mnt", os.O_RDONLY)
child.communicate(b"\\n")
print("ready", flush=True)
for line in sys.stdin:
    if os.fork() == 0:
        assert ctypes.CDLL(None).setns(fd, 0x20000) == 0
        inner = [l.split()[4] for l in open("/proc/self/mountinfo") if " inner " in l]
        print(open("/etc/os-release").read().partition('VERSION_ID="')[2].partition('"')[0], *inner, flush=True)
        os._exit(0)
    os.wait()
"""


# A namespace can be mounted only in an older one, and since Linux 6.18 their ages are numbered by each CPU for itself.
AS_YOUNGER = """for cpu in $(seq 0 $(($(nproc --all) - 1))); do
    taskset -c $cpu unshare --mount={} mount -t tmpfs inner {} 2>/dev/null && exit
done; exit 1"""


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def machine(tmp_path, request):
    with Machine(tmp_path, shared=request.param) as made:
        made.shells = []
        lay_out(made)
        made.start()
        # Of a shared mount nothing can keep a namespace: the kernel would have to put it into itself.
        made.run("sh", "-ec", f"mkdir {PLACE}; mount --bind {PLACE} {PLACE}; mount --make-private {PLACE}")
        yield made


def keep(machine, name, *options, inside=(), at="/mnt"):
    """A namespace that only the mount at PLACE/name keeps."""
    machine.run(*inside, "sh", "-ec", f"touch {PLACE}/{name}; " + AS_YOUNGER.format(f"{PLACE}/{name} {' '.join(options)}", at))


def enter(machine, name, *inside):
    """What is seen by who enters it: the image, and the mount that was made in it."""
    text = machine.run(*inside, "nsenter", f"--mount={PLACE}/{name}", "sh", "-c",
                       "sed -n 's/VERSION_ID=//p' /etc/os-release; grep -c ' /mnt .* inner ' /proc/self/mountinfo; :").stdout
    return text.replace('"', "").split()


def fates(machine, image):
    return [(n.get("path"), n.get("fd"), n["action"]) for n in machine.json("plan", f"/run/images/{image}")["namespaces"]]


def test_kept_by_a_mount(machine):
    keep(machine, "one")
    keep(machine, "slave", "--propagation", "slave")
    assert sorted(fates(machine, "two")) == [(f"{PLACE}/{name}", None, "swap") for name in ("one", "slave")]
    assert f"that is mounted at {PLACE}/one" in machine.initctl("plan", "/run/images/two").stdout
    for image in ("two", "one", "two"):
        code, told = machine.upgrade(image)
        assert (code, last_word(told)) == (0, "committed")
        for name in ("one", "slave"):
            assert enter(machine, name) == [image, "1"], machine.report()
        assert_thawed(machine)
    machine.run("umount", f"{PLACE}/one", f"{PLACE}/slave")
    assert fates(machine, "one") == []


def test_kept_by_a_descriptor(machine):
    keeper = machine.popen("/usr/bin/python3", "-c", KEEPER, cgroup="keeper", stdin=subprocess.PIPE)
    assert keeper.stdout.readline() == "ready\n", keeper.stdout.read()
    assert [(path, action) for path, fd, action in fates(machine, "two") if fd] == [(None, "swap")]
    assert "has a descriptor of (fd " in machine.initctl("plan", "/run/images/two").stdout.replace("\n         ", " ")
    for image in ("two", "one"):
        assert machine.upgrade(image)[0] == 0
        keeper.stdin.write("\n")
        keeper.stdin.flush()
        assert keeper.stdout.readline() == f"{image} /mnt\n", machine.report()
    keeper.communicate(timeout=10)
    assert fates(machine, "two") == []


def test_kept_in_another_one(machine):
    """The mount that keeps it is itself in a namespace with somebody in it, or with nobody."""
    shell = Shell(machine, "fds", "-m", "--propagation", "private")
    inside = ["nsenter", "-t", machine.run("sh", "-c", "pgrep -x holder | head -1").stdout.strip(), "-m"]
    machine.run(*inside, "sh", "-ec", f"mkdir {PLACE}/deep; mount -t tmpfs deep {PLACE}/deep")
    keep(machine, "deep/inner", inside=inside)
    assert (f"{PLACE}/deep/inner", None, "swap") in fates(machine, "two")
    assert machine.upgrade("two")[0] == 0
    assert enter(machine, "deep/inner", *inside) == ["two", "1"]
    assert shell.verdict() == "ok"
    keep(machine, "outer", "--propagation", "private", at="/media")
    inside = ["nsenter", f"--mount={PLACE}/outer"]
    machine.run(*inside, "mount", "-t", "tmpfs", "deep", f"{PLACE}/deep")
    keep(machine, "deep/inner", inside=inside)
    assert machine.upgrade("one")[0] == 0
    assert enter(machine, "outer")[0] == "one" and enter(machine, "deep/inner", *inside) == ["one", "1"]


def test_rollback(machine):
    for image in machine.images.values():
        assert image.version in ("one", "two")
    keep(machine, "before")
    assert machine.initctl("upgrade", "--no-auto-commit", "/run/images/two").returncode == 0
    assert enter(machine, "before") == ["two", "1"]
    keep(machine, "after")
    assert machine.initctl("rollback", check=False).returncode == 4
    assert [enter(machine, name) for name in ("before", "after")] == [["one", "1"]] * 2, machine.report()
    # Nothing of the other image is left in them.
    count = machine.run("nsenter", f"--mount={PLACE}/before", "grep", "-c", "image-two", "/proc/self/mountinfo").stdout
    assert count == machine.run("grep", "-c", "image-two", "/proc/self/mountinfo").stdout


def test_mount_that_is_buried(machine):
    """What nobody can enter is told, and does not forbid the upgrade."""
    keep(machine, "buried")
    machine.run("mount", "-t", "tmpfs", "over", PLACE)
    assert fates(machine, "two") == [(f"{PLACE}/buried", None, "cannot")]
    assert machine.upgrade("two")[0] == 0
    assert f"that is mounted at {PLACE}/buried stays on the old image: it cannot be opened" in machine.log()


# Makes namespaces that a descriptor keeps until it is told to look into them; and says what it has seen.
DESCRIPTORS = """
import ctypes, os, select, sys, time
libc, fds = ctypes.CDLL(None), []
print("ready", flush=True)
while not select.select([0], [], [], 0)[0] and len(fds) < 150:
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        libc.unshare(0x20000)
        os.write(here, b"x")
        while True:
            libc.pause()
    os.read(there, 1)
    fds.append(os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY))
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(there)
    os.close(here)
    time.sleep(0.004)  # most of the time there is nobody in any, only the descriptor
sys.stdin.readline()
seen = set()
for fd in fds:
    assert libc.setns(fd, 0x20000) == 0
    seen.add(open("/etc/os-release").read().partition('VERSION_ID="')[2].partition('"')[0])
print(len(fds), *seen, flush=True)
"""
# The same with mounts. unshare(1) asks a child of it to make them, which may be too early: EINVAL then, and once more.
MOUNTS = f"""
cd {PLACE}; n=0; echo ready
while [ $n -lt 60 ]; do n=$((n + 1)); touch $n; until unshare --mount={PLACE}/$n true; do :; done; done 2>&-
read line
for file in *; do nsenter --mount={PLACE}/$file sed -n 's/VERSION_ID=//p' /etc/os-release; done | sort | uniq -c
"""


@pytest.mark.parametrize("storm", [("/usr/bin/python3", "-c", DESCRIPTORS), ("sh", "-c", MOUNTS)], ids=["descriptors", "mounts"])
def test_they_come_while_it_is_done(machine, storm):
    """Those that are kept between the look at them and the freeze are noticed: none is left on the old image."""
    made = machine.popen(*storm, cgroup="storm", stdin=subprocess.PIPE)
    assert made.stdout.readline() == "ready\n"
    done = 0
    for _ in range(4):
        target = "one" if machine.image() == "two" else "two"
        code, told = machine.upgrade(target, check=False)
        assert code in (0, 3), told
        assert code == 0 or "come and go" in last_word(told) or "vfork" in last_word(told), last_word(told)
        done += code == 0
    assert done > 0, machine.report()
    said = made.communicate("\n", timeout=60)[0].replace('"', "").split()
    assert len(said) == 2 and int(said[0]) >= 60 and said[1] == machine.image(), (said, machine.report())
    assert_thawed(machine)
