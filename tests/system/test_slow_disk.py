# SPDX-License-Identifier: MIT
"""An image on a disk that does not take what is written to it: whoever closes the last of its file system waits, and
that is never PID 1."""
import pathlib
import signal
import subprocess

import pytest
from helpers import down
from image_files import ext4, small_tree
from machine import Machine, wait_until

pytestmark = pytest.mark.timeout(120)

# A file system of its own with the disk in a file on it. While that is frozen, reading goes on and writing waits. When
# the test dies the pipe ends, and with it the freeze and all of this namespace.
DISK = r"""set -e
mount --make-rprivate /
truncate -s 300M "$1/below"
mkfs.ext4 -q "$1/below"
mkdir "$1/at"
mount -o loop "$1/below" "$1/at"
cp --sparse=always "$2" "$1/at/disk"
sync -f "$1/at"
loop=$(losetup --find --show "$1/at/disk")
trap 'fsfreeze -u "$1/at" 2>/dev/null || true; losetup -d $loop' EXIT
echo $loop
while read word; do
    case $word in hang) fsfreeze -f "$1/at" ;; go) fsfreeze -u "$1/at" ;; esac
    echo $word
done
"""


class Disk:
    def __init__(self, directory, image):
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", DISK, "disk", str(directory), str(image)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.device = self.process.stdout.readline().strip()
        assert self.device.startswith("/dev/loop"), self.device

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == word

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def is_mounted(self):
        """Whether a file system has it: then it is not to be had for oneself alone."""
        return subprocess.run(["python3", "-c", "import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)", self.device],
                              stderr=subprocess.DEVNULL, check=False).returncode != 0


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    base = tmp_path_factory.mktemp("slow")
    small_tree(base / "tree", "written")
    ext4(base / "tree", base / "image")
    return base / "image"


@pytest.fixture
def disk(tmp_path, image):
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk", image)
    yield made
    made.end()


def state(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def assert_answers(machine):
    """As it always does, and not only in the end."""
    assert machine.initctl("status", timeout=10).returncode == 0
    assert state(machine.pid) in "SR"


def waiting(machine):
    """Children of PID 1 in the middle of writing."""
    children = pathlib.Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()
    return [pid for pid in children if state(pid) == "D"]


def test_refused(tmp_path, disk):
    """Mounted for writing, and dropped while the disk hangs."""
    with Machine(tmp_path) as machine:
        machine.images["one"].write("etc/molt/pre-upgrade.d/wait", "#!/bin/sh\n: > /run/share/asked\n"
                                    "until [ -e /run/share/go ]; do sleep 0.01; done\nexit 1\n", 0o755)
        machine.start()
        client = machine.popen("/usr/bin/initctl", "upgrade", "--mount-options=rw", disk.device)
        wait_until((machine.share / "asked").exists, what="the hook")
        disk.say("hang")
        (machine.share / "go").touch()
        output, _ = client.communicate(timeout=20)
        assert client.returncode == 3 and "refused:" in output, output
        wait_until(lambda: waiting(machine), what="the child that waits for the disk")
        assert_answers(machine)
        assert disk.is_mounted()
        disk.say("go")
        wait_until(lambda: not disk.is_mounted(), what="the end of the file system")
        assert_answers(machine)


def onto_disk_and_away(machine, disk):
    """The disk was the root, and is in the vault."""
    machine.images["two"].conf(Upgrade={"RollbackWindowSec": "infinity"})
    machine.start()
    result = machine.initctl("upgrade", "--mount-options=rw", disk.device, check=False)
    assert result.returncode == 0, result.stdout + machine.report()
    machine.run("touch", "/written")
    machine.upgrade("two")
    assert machine.image() == "two"


def test_released(tmp_path, disk):
    with Machine(tmp_path) as machine:
        onto_disk_and_away(machine, disk)
        disk.say("hang")
        machine.initctl("release", timeout=10)
        wait_until(lambda: "generation 2 is released" in machine.log(), what="the release")
        wait_until(lambda: waiting(machine), what="the child that waits for the disk")
        assert_answers(machine)
        assert disk.is_mounted()
        disk.say("go")
        wait_until(lambda: not disk.is_mounted(), what="the end of the file system")


def test_what_is_mounted_on_it(tmp_path, disk):
    """An image that was taken from its own mount leaves that below the root it came from."""
    with Machine(tmp_path) as machine:
        machine.images["one"].conf(Upgrade={"RollbackWindowSec": "infinity"})
        machine.images["two"].conf(Upgrade={"RollbackWindowSec": "infinity"})
        machine.start()
        machine.run("mount", disk.device, "/mnt")
        machine.run("mount", "--bind", "/run/images/two", "/new")
        # Left on the old root with /new: a mount below it goes nowhere else.
        machine.run("mount", "--move", "/mnt", "/new/mnt")
        machine.run("touch", "/new/mnt/written")
        result = machine.initctl("upgrade", "/new", check=False)
        assert result.returncode == 0, result.stdout + machine.report()
        disk.say("hang")
        machine.initctl("release", timeout=10)
        wait_until(lambda: waiting(machine), what="the child that waits for the disk")
        assert_answers(machine)
        disk.say("go")
        wait_until(lambda: not disk.is_mounted(), what="the end of the file system")


def test_power_off(tmp_path, disk):
    """It is the child with the deadline that waits."""
    with Machine(tmp_path) as machine:
        onto_disk_and_away(machine, disk)
        disk.say("hang")
        down(machine)
        wait_until(lambda: waiting(machine), what="the child that waits for the disk")
        assert state(machine.pid) in "SR"
        disk.say("go")
        assert machine.process.wait(30) == 128 + signal.SIGINT
        assert not disk.is_mounted()
