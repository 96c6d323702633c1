# SPDX-License-Identifier: MIT
"""Carry=: files of the running system in the next image, copied into one that can be written to and mounted over those
of one that cannot; whole or not at all, and where they were again after a way back."""
import contextlib
import os
import pathlib
import shutil
import signal
import struct
import subprocess

import pytest
from image_files import MAKERS, ext4, loops_of, small_tree
from machine import Machine, wait_until
from outside import Snapshot, assert_unchanged, mount_table

pytestmark = pytest.mark.timeout(120)


def config(machine, *patterns, **more):
    for image in machine.images.values():
        image.conf(Upgrade={"Carry": " ".join(patterns)} | more)


@pytest.fixture
def system(tmp_path):
    """The first image can be written to, the others cannot, and have an empty file where one is carried."""
    with Machine(tmp_path, images=("one", "two", "three"), writable=("one", "rw")) as machine:
        for name, image in machine.images.items():
            image.write("etc/machine-id", "" if name != "one" else "of one\n")
            image.write("etc/keys/own", f"own of {name}\n")
            image.write("opt/place/file", "")
        yield machine


@pytest.fixture(scope="module")
def empty_ext4(tmp_path_factory):
    """A small system in a file, to be mounted for writing."""
    base = tmp_path_factory.mktemp("carry")
    small_tree(base / "tree", "written")
    ext4(base / "tree", base / "image")
    return base / "image"


def put(machine, file):
    subprocess.run(["cp", "--sparse=always", str(file), str(machine.share / "image")], check=True)
    return "/run/share/image"


def onto_file(machine, *options):
    return machine.initctl("upgrade", "--mount-options=rw", *options, "/run/share/image", check=False)


def look_into(machine, *command):
    """Runs something on the image file, mounted apart."""
    return machine.run("unshare", "-m", "sh", "-c", 'mount -o loop /run/share/image /mnt && cd /mnt && ' + " ".join(command),
                       check=False)


def refused(result):
    assert result.returncode == 3, result.stdout
    return result.stdout.strip().splitlines()[-1]


def leftovers(machine):
    return look_into(machine, "find . -name '.molt-carry*'").stdout


# Into an image that can be written to

METADATA = """import os, sys
for path in sys.argv[1:]:
    st = os.lstat(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    print(path.removeprefix("/mnt/old"), oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns,
          [(n, os.getxattr(path, n, follow_symlinks=False).hex()) for n in names if n != "security.selinux"],
          os.readlink(path) if os.path.islink(path) else "" if os.path.isdir(path) else open(path, "rb").read().hex())
"""


def test_copies_with_everything_that_is_theirs(system, empty_ext4):
    machine = system
    config(machine, "/etc/machine-id", "/etc/secret", "/etc/link", "/etc/tree", "/etc/missing", "/var/lib", "/etc/deep/er/file",
           "/run/share")
    machine.start()
    put(machine, empty_ext4)
    machine.run("sh", "-c", """set -e; cd /etc
        echo key > secret; chown 12:34 secret; chmod 4751 secret; touch -d '2001-02-03 04:05:06.789' secret
        mkdir -p tree/below deep/er; chmod 1770 tree; chown 7:8 deep; chmod 711 deep
        echo deep > deep/er/file; echo a > 'tree/with space'; ln -s ../secret tree/below/link
        ln -s nowhere link; touch -h -d '2002-02-02' link""")
    # Attributes by Python, which every machine that runs this has.
    machine.run("python3", "-c", """import os
os.setxattr("/etc/secret", "user.word", b"hello")
os.setxattr("/etc/secret", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
os.setxattr("/etc/tree", "user.on-a-directory", b"\\0\\1")""")
    (machine.share / "look.py").write_text(METADATA)
    paths = ["secret", "link", "tree", "tree/with space", "tree/below", "tree/below/link", "deep/er/file", "machine-id"]
    before = machine.run("python3", "/run/share/look.py", *(f"/etc/{p}" for p in paths)).stdout
    result = onto_file(machine)
    assert result.returncode == 0, result.stdout + machine.report()
    assert machine.image() == "written"
    outside = subprocess.run(["python3", "-c", METADATA, *(str(machine.path(f"/etc/{p}")) for p in paths)], check=True,
                             capture_output=True, text=True).stdout
    assert outside.replace(str(machine.path("/")).rstrip("/"), "") == before
    made = machine.path("/etc/deep").stat()  # on the way to a file, and missing in the image
    assert (made.st_mode & 0o7777, made.st_uid, made.st_gid) == (0o711, 7, 8)
    assert not list(machine.path("/etc").rglob(".molt-carry*"))


def test_plan_says_it_and_does_nothing(system, empty_ext4):
    machine = system
    config(machine, "/etc/machine-id", "/etc/missing*", "/var/lib")
    machine.start()
    put(machine, empty_ext4)
    content = (machine.share / "image").read_bytes()
    plan = machine.json("plan", "--mount-options=rw", "/run/share/image")
    assert {c["path"]: c["action"] for c in plan["carried"]} == {
        "/etc/machine-id": "copy", "/etc/missing*": "missing", "/var/lib": "stays"}
    said = machine.initctl("plan", "--mount-options=rw", "/run/share/image").stdout
    assert "copied       /etc/machine-id" in said and "not here     /etc/missing*" in said, said
    plan = machine.json("plan", "/run/images/two")
    assert plan["carried"][0] == {"path": "/etc/machine-id", "action": "bind"}
    assert not machine.path("/var/lib/molt").exists()
    assert (machine.share / "image").read_bytes() == content


HOSTILE = {
    "socket": ("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/etc/it\")'", "neither a file nor a directory"),
    "fifo": ("mkfifo /etc/it", "neither a file nor a directory"),
    "fifo in a directory": ("mkdir /etc/it; echo a > /etc/it/a; mkfifo /etc/it/pipe", "/etc/it/pipe is a fifo"),
    "device": ("mknod /etc/it c 1 5", "neither a file nor a directory"),
    "huge": ("truncate -s 1T /etc/it", "too large"),
    "more than there is room for": ("mkdir /etc/it; head -c 60000000 /dev/urandom > /etc/it/big; cp /etc/it/big /etc/it/big2",
                                    "No space left"),
    "many": ("mkdir /etc/it; cd /etc/it; for i in 1 2 3 4 5 6 7 8 9 10 11; do mkdir $i; (cd $i; seq 1000 | xargs touch); done",
             "too many files"),
    "a file for a directory": ("rm -f /etc/it; echo x > /etc/it; true", "a directory there"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_cannot_be_carried_refuses_and_leaves_nothing(system, empty_ext4, what):
    script, word = HOSTILE[what]
    machine = system
    config(machine, "/etc/aaa", "/etc/it", "/etc/new/dir/file")
    machine.start()
    put(machine, empty_ext4)
    machine.run("sh", "-c", "echo a > /etc/aaa; mkdir -p /etc/new/dir; echo x > /etc/new/dir/file; " + script)
    if what.startswith("a file for"):
        assert look_into(machine, "mkdir etc/it").returncode == 0
    before = Snapshot(machine)
    reason = refused(onto_file(machine))
    assert word in reason and "/etc/it" in reason, reason
    assert_unchanged(machine, before)
    assert not leftovers(machine)
    wait_until(lambda: not loops_of(machine.share / "image"), what="the end of the loop device")


def test_attribute_that_does_not_fit(system, empty_ext4):
    """64 KiB of it, where a file system has one block for all: ext4."""
    machine = system
    config(machine, "/etc/it")
    machine.start()
    put(machine, empty_ext4)
    machine.run("python3", "-c", "import os; open('/etc/it', 'w'); os.setxattr('/etc/it', 'user.big', b'x' * 65000)")
    reason = refused(onto_file(machine))
    assert "user.big" in reason and "/etc/it" in reason and "No space" in reason, reason
    assert not leftovers(machine)


def test_file_that_does_not_stop_changing(system, empty_ext4):
    machine = system
    config(machine, "/etc/it")
    machine.start()
    put(machine, empty_ext4)
    writer = machine.popen("python3", "-c", """
import os
fd = os.open("/etc/it", os.O_RDWR | os.O_CREAT)
for _ in range(40):
    os.write(fd, os.urandom(1 << 20))
print("writing", flush=True)
while True:
    os.pwrite(fd, os.urandom(16), 0)
""", cgroup="writer")
    assert writer.stdout.readline() == "writing\n"
    reason = refused(onto_file(machine, "--force"))
    assert "does not stop changing" in reason and "/etc/it" in reason, reason
    assert not leftovers(machine)
    writer.kill()


def test_links_lead_nowhere_else(system, empty_ext4):
    """Neither on the way to what is carried nor on the way to where it goes."""
    machine = system
    config(machine, "/etc/dir/file", "/etc/loop/x", "/etc/round")
    machine.start()
    put(machine, empty_ext4)
    machine.run("sh", "-c", "mkdir /etc/real; echo carried > /etc/real/file; ln -s real /etc/dir; ln -s loop /etc/loop; "
                            "ln -s round /etc/round; mkdir /run/outside")
    # In the image the same directory is a link that would lead to a place of the running system.
    assert look_into(machine, "ln -s /run/outside etc/dir; mkdir run/outside").returncode == 0
    result = onto_file(machine)
    assert result.returncode == 0, result.stdout
    assert not list(machine.path("/run/outside").iterdir())
    # What it leads to is in the image itself, now below the mount at /run.
    assert look_into(machine, "cat run/outside/file; readlink etc/round").stdout == "carried\nround\n"


def test_killed_in_the_middle_is_swept_up_the_next_time(system, empty_ext4):
    """What is called as temporaries are, and nothing else; and no pattern means one of the running system."""
    machine = system
    config(machine, "/etc/machine-id", "/etc/.molt*")
    machine.images["one"].write("etc/.molt-carry.0123abcd", "left over")
    machine.start()
    put(machine, empty_ext4)
    assert look_into(machine, "mkdir etc/.molt-carry.deaddead && echo x > etc/.molt-carry.deaddead/x; "
                     "echo > etc/.molt-carry.beefbeef; for f in mine beef DEADBEEF beefbeef1; do echo > etc/.molt-carry.$f; done").returncode == 0
    plan = machine.json("plan", "--mount-options=rw", "/run/share/image")
    assert {c["path"]: c["action"] for c in plan["carried"]} == {"/etc/machine-id": "copy", "/etc/.molt*": "missing"}
    assert onto_file(machine).returncode == 0
    left = {path.name for path in machine.path("/etc").glob(".molt-carry*")}
    assert left == {".molt-carry.mine", ".molt-carry.beef", ".molt-carry.DEADBEEF", ".molt-carry.beefbeef1"}
    assert machine.path("/etc/machine-id").read_text() == "of one\n"


def test_killed_while_it_copies(system, empty_ext4):
    """Whoever kills the child, in the middle of a file that it waits for: the next attempt finds and removes the rest."""
    machine = system
    config(machine, "/etc/aaa", "/etc/it")
    machine.start()
    put(machine, empty_ext4)
    # What does not stop changing is copied several times: time enough.
    machine.run("sh", "-c", "echo a > /etc/aaa; truncate -s 200M /etc/it")
    before = Snapshot(machine)
    client = machine.popen("/usr/bin/initctl", "upgrade", "--mount-options=rw", "/run/share/image")
    child = wait_until(lambda: [pid for pid in children(machine) if is_writing_copies(pid)], what="the child that copies")
    os.kill(child[0], signal.SIGKILL)
    output, _ = client.communicate(timeout=30)
    assert client.returncode == 3 and "ended without an answer" in output, output
    assert_unchanged(machine, before)
    wait_until(lambda: not loops_of(machine.share / "image"), what="the end of the loop device")
    assert ".molt-carry." in leftovers(machine)
    machine.run("truncate", "-s", "10", "/etc/it")
    result = onto_file(machine)
    assert result.returncode == 0, result.stdout + machine.report()
    assert not list(machine.path("/etc").glob(".molt-carry*")) and machine.path("/etc/it").stat().st_size == 10


def children(machine):
    return [int(pid) for pid in pathlib.Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()]


def is_writing_copies(pid):
    with contextlib.suppress(OSError):
        return any("/.molt-carry." in os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    return False


def acl(*entries):
    """The attribute as the kernel has it: (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xffffffff
ACCESS = acl((1, 6, NOBODY), (2, 4, 12), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
DEFAULT = acl((1, 7, NOBODY), (2, 5, 34), (4, 5, NOBODY), (16, 5, NOBODY), (32, 0, NOBODY))


@pytest.mark.parametrize("kind", ("ext4", "xfs", "btrfs"))
def test_access_lists_holes_and_links(tmp_path, tmp_path_factory, kind):
    """On each file system that can be written to; nothing is inherited from where the copy is made."""
    tree = small_tree(tmp_path_factory.mktemp("tree") / "tree", "written")
    (tree / "etc/keys").mkdir()
    MAKERS[kind](tree, tmp_path / "image")
    with Machine(tmp_path, writable=("one",)) as machine:
        config(machine, "/etc/machine-id", "/etc/keys/*", "/etc/dir", "/etc/holes", "/etc/twice*")
        machine.start()
        put(machine, tmp_path / "image")
        assert look_into(machine, "python3 -c 'import os; os.setxattr(\"etc\", \"system.posix_acl_default\", "
                         f"bytes.fromhex(\"{DEFAULT.hex()}\"))'").returncode == 0
        machine.run("sh", "-c", "cd /etc; mkdir keys dir; echo k > keys/a; echo p > keys/plain; echo id > machine-id; echo d > dir/f; "
                    "echo x > twice; ln twice twice-too; truncate -s 100M holes; echo end >> holes; chown 5:6 keys/a")
        machine.run("python3", "-c", f"""import os
os.setxattr("/etc/keys/a", "system.posix_acl_access", {ACCESS!r})
os.setxattr("/etc/dir", "system.posix_acl_access", {ACCESS!r})
os.setxattr("/etc/dir", "system.posix_acl_default", {DEFAULT!r})""")
        result = onto_file(machine)
        assert result.returncode == 0 and machine.image() == "written", result.stdout + machine.report()
        read = lambda path: {name: os.getxattr(machine.path(path), name) for name in os.listxattr(machine.path(path))
                             if name.startswith("system.posix_acl")}
        assert read("/etc/keys/a") == {"system.posix_acl_access": ACCESS}
        assert read("/etc/dir") == {"system.posix_acl_access": ACCESS, "system.posix_acl_default": DEFAULT}
        assert read("/etc/keys/plain") == read("/etc/machine-id") == {}
        holes = machine.path("/etc/holes").stat()
        assert holes.st_size == (100 << 20) + 4 and holes.st_blocks * 512 < 1 << 20
        assert machine.path("/etc/holes").read_bytes()[-5:] == b"\0end\n"
        links = [machine.path(path).stat() for path in ("/etc/twice", "/etc/twice-too")]
        assert [st.st_nlink for st in links] == [1, 1] and {st.st_size for st in links} == {2}


def test_immutable(system, empty_ext4):
    """Of the image's own: it is in the way. Of the running one: it does not come along."""
    machine = system
    config(machine, "/etc/machine-id")
    machine.start()
    put(machine, empty_ext4)
    assert look_into(machine, "touch etc/machine-id && chattr +i etc/machine-id").returncode == 0
    reason = refused(onto_file(machine))
    assert "/etc/machine-id" in reason and "chattr -i" in reason, reason
    assert not leftovers(machine)
    assert look_into(machine, "chattr -i etc/machine-id").returncode == 0
    assert onto_file(machine).returncode == 0


# Over those of an image that cannot be written to

def mounts_at(machine, path):
    return [number for number, (_, point) in mount_table(machine).items() if point == path]


def test_mounted_over_those_of_a_read_only_image(system):
    """From one read-only image to the next it is the same file; each image keeps its own mount."""
    machine = system
    config(machine, "/etc/machine-id", "/etc/keys")
    machine.start()
    machine.run("chmod", "640", "/etc/machine-id")
    assert machine.upgrade("two")[0] == 0
    assert machine.image() == "two"
    read = lambda path: machine.run("cat", path).stdout
    assert read("/etc/machine-id") == "of one\n" and read("/etc/keys/own") == "own of one\n"
    assert machine.path("/var/lib/molt/carry/etc/machine-id").stat().st_mode & 0o777 == 0o640
    machine.run("sh", "-c", "echo changed > /etc/machine-id")  # state can be written to
    first = mounts_at(machine, "/etc/machine-id")
    assert len(first) == 1
    assert machine.upgrade("three")[0] == 0
    assert machine.image() == "three" and read("/etc/machine-id") == "changed\n"
    second = mounts_at(machine, "/etc/machine-id")
    assert len(second) == 1 and second != first
    machine.initctl("reexec")
    # Back onto one that can be written to: a copy of what was mounted, and no mount.
    plan = machine.json("plan", "/run/images/one")
    assert [c["action"] for c in plan["carried"]] == ["copy", "copy"], plan
    assert machine.upgrade("one")[0] == 0
    assert machine.image() == "one" and read("/etc/machine-id") == "changed\n" and not mounts_at(machine, "/etc/machine-id")


def test_rolled_back_they_are_as_they_were(system):
    machine = system
    config(machine, "/etc/machine-id", AutoCommit="no")
    machine.start()
    machine.initctl("upgrade", "/run/images/two")
    machine.initctl("commit")
    before, table = mounts_at(machine, "/etc/machine-id"), Snapshot(machine).mounts
    machine.initctl("upgrade", "/run/images/three")
    assert machine.image() == "three" and machine.run("cat", "/etc/machine-id").stdout == "of one\n"
    machine.initctl("rollback", check=False)
    assert machine.image() == "two" and mounts_at(machine, "/etc/machine-id") == before
    assert machine.run("cat", "/etc/machine-id").stdout == "of one\n"
    points = lambda t: sorted(point for _, point in t.values())
    wait_until(lambda: points(Snapshot(machine).mounts) == points(table), what="the mounts as before")
    # and once more from there
    machine.initctl("upgrade", "/run/images/three")
    assert machine.image() == "three" and machine.run("cat", "/etc/machine-id").stdout == "of one\n"


def test_no_place_for_it(system):
    machine = system
    config(machine, "/etc/here-only", "/etc/machine-id")
    machine.images["one"].write("etc/here-only", "x")
    machine.start()
    before = Snapshot(machine)
    for verb in ("plan", "upgrade"):
        result = machine.initctl(verb, "/run/images/two", check=False)
        assert result.returncode == 3 and "/etc/here-only" in result.stdout and "make an empty file" in result.stdout
    assert_unchanged(machine, before)
    assert not machine.path("/var/lib/molt").exists()


def test_kinds_that_do_not_fit(system):
    machine = system
    config(machine, "/etc/it")
    machine.images["one"].write("etc/it", "x")
    machine.images["two"].write("etc/it/file", "")
    (machine.images["three"].directory / "etc/it").symlink_to("os-release")
    machine.start()
    assert "it is a file, and in the read-only image it is not" in refused(machine.initctl("upgrade", "/run/images/two", check=False))
    assert "symbolic link there" in refused(machine.initctl("upgrade", "/run/images/three", check=False))


def test_links_into_a_read_only_image(system):
    """Nothing can be mounted over a link: it has to be the same one."""
    machine = system
    config(machine, "/etc/it")
    (machine.images["one"].directory / "etc/it").symlink_to("a")
    (machine.images["two"].directory / "etc/it").symlink_to("b")
    (machine.images["three"].directory / "etc/it").symlink_to("a")
    machine.start()
    assert "is a symbolic link" in refused(machine.initctl("upgrade", "/run/images/two", check=False))
    assert machine.json("plan", "/run/images/three")["carried"] == [{"path": "/etc/it", "action": "same"}]


def test_state_directory_that_does_not_come_along(system):
    machine = system
    config(machine, "/etc/machine-id", CarryDirectory="/opt/carry")
    machine.start()
    reason = refused(machine.initctl("upgrade", "/run/images/two", check=False))
    assert "CarryDirectory=/opt/carry lies on the running image itself" in reason
    assert not machine.path("/opt/carry").exists()


def test_image_that_does_not_list_it_is_told(system):
    machine = system
    config(machine, "/etc/machine-id")
    machine.images["two"].conf()
    machine.start()
    assert "no Carry=/etc/machine-id" in machine.initctl("plan", "/run/images/two").stdout


def test_at_boot(tmp_path):
    """A read-only image that boots with a state directory has the same mounts, and the next upgrade knows them."""
    with Machine(tmp_path, images=("one", "two")) as machine:
        for image in machine.images.values():
            image.write("etc/machine-id", "")
            image.write("etc/none", "of the image\n")
            image.write("etc/hostname", "of-the-image\n")
        store = machine.share / "store/carry/etc"
        store.mkdir(parents=True)
        for name in ("machine-id", "hostname", "no-place", "not-listed"):
            (store / name).write_text("carried\n")
        machine.images["one"].write("etc/fstab", "/run/share/store /mnt none bind\n")
        config(machine, "/etc/machine-id", "/etc/none", "/etc/hostname", "/etc/no-place", CarryDirectory="/mnt/carry")
        machine.start()
        read = lambda path: machine.run("cat", path).stdout
        assert read("/etc/machine-id") == "carried\n" and read("/etc/none") == "of the image\n"
        assert machine.run("hostname").stdout == "carried\n"
        assert "/etc/no-place is carried, and there is no place for it" in machine.log()
        before = mounts_at(machine, "/etc/machine-id")
        assert machine.json("plan", "/run/images/two")["mounts"]
        assert {m["path"]: m["action"] for m in machine.json("plan", "/run/images/two")["mounts"]}["/etc/machine-id"] == "leave"
        assert machine.upgrade("two")[0] == 0
        assert read("/etc/machine-id") == "carried\n" and mounts_at(machine, "/etc/machine-id") != before


def test_other_namespaces_have_them_too(system):
    machine = system
    config(machine, "/etc/machine-id")
    machine.start()
    other = machine.popen("unshare", "-m", "sh", "-c", "echo ready; while read x; do cat /etc/machine-id; done", cgroup="apart",
                          stdin=subprocess.PIPE)
    assert other.stdout.readline() == "ready\n"
    for image in ("two", "three"):
        assert machine.upgrade(image)[0] == 0, machine.report()
        other.stdin.write("x\n")
        other.stdin.flush()
        assert other.stdout.readline() == "of one\n"
    other.stdin.close()
    other.wait(timeout=10)


# What lies in the state directory, and is not what is seen

STORE = "/run/share/carry"


@pytest.fixture
def read_only(tmp_path):
    """All images but "rw" are read-only, and what is carried is state that outlives the machine."""
    with Machine(tmp_path, images=("one", "two", "three", "rw"), writable=("rw",)) as machine:
        for name, image in machine.images.items():
            for place in ("etc/key", "etc/keys/own"):
                image.write(place, f"own of {name}\n")
            image.write("etc/machine-id", "")
        yield machine


def store(machine, path, text):
    """As an administrator does: not in the old file, but in its place."""
    place = machine.share / "carry" / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    (place.parent / ".new").write_text(text)
    (place.parent / ".new").rename(place)
    return place


def read(machine, path):
    return machine.run("cat", path).stdout


def carried(machine, image):
    """What a plan says of each, and its warnings about the state directory."""
    plan = machine.json("plan", f"/run/images/{image}")
    return {c["path"]: c["action"] for c in plan["carried"]}, [w for w in plan["warnings"] if "CarryDirectory=" in w]


def test_what_was_put_there_counts_over_that_of_a_read_only_image(read_only):
    """The image's own cannot have been changed by anybody: what an administrator has put there is this machine's,
    whether anything is seen of it or not; and nobody overwrites it."""
    machine = read_only
    config(machine, "/etc/key", "/etc/keys", "/etc/later", CarryDirectory=STORE)
    for name in ("two", "three"):
        machine.images[name].write("etc/later", "")
    machine.start()
    places = [store(machine, path, "the machine's\n") for path in ("/etc/key", "/etc/keys/own", "/etc/later")]
    inodes = [place.stat().st_ino for place in places]
    actions, warnings = carried(machine, "two")
    assert actions == {"/etc/key": "bind", "/etc/keys": "bind", "/etc/later": "bind"}
    assert [w.split()[0] for w in warnings] == ["/etc/key", "/etc/keys", "/etc/later"], warnings
    assert machine.upgrade("two")[0] == 0
    assert machine.image() == "two"
    assert [read(machine, path) for path in ("/etc/key", "/etc/keys/own", "/etc/later")] == ["the machine's\n"] * 3
    # Again, where one of them is mounted already.
    store(machine, "/etc/key", "another one\n")
    assert read(machine, "/etc/key") == "the machine's\n"
    assert machine.upgrade("three")[0] == 0
    assert read(machine, "/etc/key") == "another one\n" and len(mounts_at(machine, "/etc/key")) == 1
    assert [place.stat().st_ino for place in places[1:]] == inodes[1:]


def test_what_was_put_there_is_copied_too(read_only):
    machine = read_only
    config(machine, "/etc/key", "/etc/deep/*", CarryDirectory=STORE)
    machine.start()
    store(machine, "/etc/key", "the machine's\n")
    store(machine, "/etc/deep/one", "too\n").parent.chmod(0o750)
    assert carried(machine, "rw")[0] == {"/etc/key": "copy", "/etc/deep/one": "copy"}
    assert machine.upgrade("rw")[0] == 0
    assert read(machine, "/etc/key") == "the machine's\n" and read(machine, "/etc/deep/one") == "too\n"
    assert not mounts_at(machine, "/etc/key") and machine.path("/etc/deep").stat().st_mode & 0o777 == 0o750
    # The file of a root that can be written to is the younger one, also than what it was copied from.
    machine.run("sh", "-c", "rm -r /etc/deep; echo changed >/etc/key")
    assert machine.upgrade("two")[0] == 0
    assert read(machine, "/etc/key") == "changed\n" == (machine.share / "carry/etc/key").read_text()


def test_what_was_put_there_and_has_no_place(read_only):
    """As at a boot: it is said, and that is all."""
    machine = read_only
    config(machine, "/etc/key", "/etc/no-place", CarryDirectory=STORE)
    machine.start()
    store(machine, "/etc/no-place", "x\n")
    actions, warnings = carried(machine, "two")
    assert actions == {"/etc/key": "bind", "/etc/no-place": "missing"}
    assert machine.upgrade("two")[0] == 0 and read(machine, "/etc/key") == "own of one\n"
    # Links and the like are nothing that a boot would mount.
    (machine.share / "carry/etc/key").unlink()
    (machine.share / "carry/etc/key").symlink_to("no-place")
    assert machine.upgrade("three")[0] == 0


def test_what_was_removed_is_the_images_again(read_only):
    machine = read_only
    config(machine, "/etc/key", "/etc/keys", CarryDirectory=STORE)
    machine.start()
    assert machine.upgrade("two")[0] == 0
    assert read(machine, "/etc/key") == read(machine, "/etc/keys/own") == "own of one\n"
    machine.run("rm", "-r", f"{STORE}/etc/key", f"{STORE}/etc/keys")
    actions, warnings = carried(machine, "three")
    assert actions == {"/etc/key": "missing", "/etc/keys": "missing"} and len(warnings) == 2, warnings
    assert machine.upgrade("three")[0] == 0
    assert read(machine, "/etc/key") == read(machine, "/etc/keys/own") == "own of three\n"
    assert not mounts_at(machine, "/etc/key") and not (machine.share / "carry/etc/key").exists()


# The ID that the boot has made, over that of a read-only image

def reboot(machine, tmp_path, image):
    """Another machine from that image, with the same state."""
    again = Machine(tmp_path, images=(image,))
    shutil.copytree(machine.images[image].directory, again.images[image].directory, dirs_exist_ok=True)
    shutil.copytree(machine.share, again.share, dirs_exist_ok=True)
    return again


ID = "/etc/machine-id"


def test_the_boots_id_is_kept_where_it_is_carried(read_only, tmp_path):
    machine = read_only
    config(machine, ID, CarryDirectory=STORE)
    machine.start()
    first = read(machine, ID)
    assert len(first) == 33 and (machine.share / "carry/etc/machine-id").read_text() == first, machine.report()
    assert "kept in CarryDirectory=" in machine.log()
    for image in ("two", "three"):
        assert carried(machine, image) == ({ID: "stays"}, [])
        assert machine.upgrade(image)[0] == 0
        assert read(machine, ID) == first and len(mounts_at(machine, ID)) == 1
    with reboot(machine, tmp_path, "three").start() as again:
        assert read(again, ID) == first and len(mounts_at(again, ID)) == 1
        assert "this machine is" not in again.log()
        store(again, ID, "0123456789abcdef0123456789abcdef\n")  # from the next boot on


def test_the_boots_id_is_kept_by_an_upgrade(read_only, tmp_path):
    """Of a machine whose boot could not keep it yet."""
    machine = read_only
    config(machine, ID, CarryDirectory=STORE, AutoCommit="no")
    machine.start()
    first = read(machine, ID)
    shutil.rmtree(machine.share / "carry")
    assert carried(machine, "two")[0] == {ID: "stays"} and not (machine.share / "carry").exists()
    machine.initctl("upgrade", "/run/images/two")
    assert machine.image() == "two" and read(machine, ID) == first and len(mounts_at(machine, ID)) == 1
    assert (machine.share / "carry/etc/machine-id").read_text() == first
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.image() == "one" and read(machine, ID) == first and len(mounts_at(machine, ID)) == 1
    machine.initctl("upgrade", "/run/images/three")
    machine.initctl("commit")
    assert machine.image() == "three" and read(machine, ID) == first and len(mounts_at(machine, ID)) == 1
    with reboot(machine, tmp_path, "three").start() as again:
        assert read(again, ID) == first, again.report()


def test_the_boots_id_is_copied_into_an_image_that_can_be_written_to(read_only):
    """It stays mounted over it as long as this boot lasts; what is below is for the next one."""
    machine = read_only
    config(machine, ID, CarryDirectory=STORE, AutoCommit="no")
    machine.start()
    first = read(machine, ID)
    assert carried(machine, "rw")[0] == {ID: "copy"}
    machine.initctl("upgrade", "/run/images/rw")
    assert machine.image() == "rw" and read(machine, ID) == first
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.image() == "one" and read(machine, ID) == first
    machine.initctl("upgrade", "/run/images/rw")
    machine.initctl("commit")
    assert machine.image() == "rw" and read(machine, ID) == first
    machine.run("umount", ID)
    assert read(machine, ID) == first and machine.path(ID).stat().st_mode & 0o777 == 0o444


def test_the_boots_id_that_nobody_can_keep(read_only):
    """The upgrade is none the worse for it."""
    machine = read_only
    config(machine, ID, CarryDirectory="/opt/carry")
    machine.start()
    first = read(machine, ID)
    assert "is not kept: cannot make CarryDirectory=/opt/carry" in machine.log()
    assert "until the next boot" in machine.log()
    actions, warnings = carried(machine, "two")
    assert actions == {ID: "stays"} and "the next boot will make another one" in warnings[0], warnings
    assert machine.upgrade("two")[0] == 0 and read(machine, ID) == first


def test_the_boots_id_that_is_not_carried(read_only):
    """It comes along as any mount does, and nothing is written anywhere."""
    machine = read_only
    config(machine, "/etc/key", CarryDirectory=STORE)
    machine.start()
    first = read(machine, ID)
    assert not (machine.share / "carry").exists()
    assert machine.upgrade("two")[0] == 0 and read(machine, ID) == first
    assert not (machine.share / "carry/etc/machine-id").exists()
