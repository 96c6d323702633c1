# SPDX-License-Identifier: MIT
"""Parts of the image that are mounted somewhere: they move like any mount and go on showing the old image, so they are
named in the plan and as holders, and keep their generation until they are unmounted."""
import subprocess

import pytest
from helpers import wait_log
from machine import Machine
from outside import last_word

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def machine(tmp_path):
    with Machine(tmp_path) as made:
        for image in made.images.values():
            image.write("usr/share/www/index", f"of {image.version}\n")
            image.write("usr/share/www-more/index", "none of it\n")
        yield made.start()


def mounts(listed):
    return sorted((h["pid"], h["path"], h["part"], h["action"]) for h in listed["holders"] if h["what"] == "mount")


def read(machine, path):
    return machine.run("cat", path).stdout


def test_named_until_they_are_gone(machine):
    machine.run("sh", "-ec", "mkdir '/run/a part' /run/own; touch /run/file; mount --bind /usr/share/www '/run/a part'; "
                "mount --bind /usr/share/www /mnt; mount --bind /etc/os-release /run/file; mount --bind /run/own /media")
    expected = [(0, "/mnt", "/usr/share/www", "stays"), (0, "/run/a part", "/usr/share/www", "stays"),
                (0, "/run/file", "/etc/os-release", "stays")]
    assert mounts(machine.json("plan", "/run/images/two")) == expected
    said = machine.initctl("plan", "/run/images/two").stdout
    assert "unmount /mnt to release it; mounted again it shows" in said.replace("\n     ", " "), said
    assert "log out of" not in said.partition("unmount /mnt")[2], said
    code, told = machine.upgrade("two")
    assert (code, last_word(told)) == (0, "committed")
    assert read(machine, "/mnt/index") == read(machine, "/run/a part/index") == "of one\n"
    assert read(machine, "/usr/share/www/index") == "of two\n" and 'VERSION_ID="one"' in read(machine, "/run/file")
    assert mounts(machine.json("holders")) == expected
    # PID 1's next life knows it as well.
    machine.initctl("reexec")
    assert mounts(machine.json("holders")) == expected
    machine.run("umount", "/mnt", "/run/a part")
    assert mounts(machine.json("holders")) == expected[2:]
    assert "generation 1 is released" not in machine.log()
    machine.run("umount", "/run/file")
    wait_log(machine, "generation 1 is released", 15)
    machine.run("mount", "--bind", "/usr/share/www", "/mnt")
    assert mounts(machine.json("holders")) == []
    assert read(machine, "/mnt/index") == "of two\n"


def test_before_the_commit(machine):
    """The old generation is attached still: what keeps it longer is named already."""
    machine.run("mount", "--bind", "/usr/share/www", "/mnt")
    assert machine.initctl("upgrade", "--no-auto-commit", "/run/images/two").returncode == 0
    assert mounts(machine.json("holders")) == [(0, "/mnt", "/usr/share/www", "stays")]
    assert machine.initctl("rollback", check=False).returncode == 4
    assert mounts(machine.json("holders")) == []
    assert mounts(machine.json("plan", "/run/images/two")) == [(0, "/mnt", "/usr/share/www", "stays")]


def test_in_another_namespace(machine):
    shell = machine.popen("unshare", "-m", "sh", "-ec", "mount --bind /usr/share/www /mnt; echo ready; read line; cat /mnt/index",
                          cgroup="shell", stdin=subprocess.PIPE)
    assert shell.stdout.readline() == "ready\n"
    (pid, *rest), = mounts(machine.json("plan", "/run/images/two"))
    assert pid > 0 and rest == ["/mnt", "/usr/share/www", "stays"]
    assert f"in the mount namespace of process {pid} (sh), or end that" in " ".join(machine.initctl("plan", "/run/images/two").stdout.split())
    assert machine.upgrade("two")[0] == 0
    assert mounts(machine.json("holders")) == [(pid, "/mnt", "/usr/share/www", "stays")]
    assert shell.communicate("\n", timeout=10)[0] == "of one\n"
    wait_log(machine, "generation 1 is released", 15)


def test_single_files(machine):
    """A mount on a file goes to that file of the new image, and is made a file's place where there is none."""
    machine.run("sh", "-ec", "echo mine >/run/mine; mount --bind /run/mine /etc/hostname")
    for image in ("two", "one"):
        assert machine.upgrade(image)[0] == 0
        assert read(machine, "/etc/hostname") == "mine\n"
    machine.run("umount", "/etc/hostname")
    assert read(machine, "/etc/hostname") == "molt-test\n"
