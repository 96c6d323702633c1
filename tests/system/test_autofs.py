# SPDX-License-Identifier: MIT
"""Automounts (autofs): moved without being triggered, and working afterwards; whoever waits in one refuses the upgrade in
time, by name."""
import re

import pytest
from daemons import AUTOFS, SERVED, Daemon
from machine import Machine
from outside import assert_thawed, last_word

pytestmark = pytest.mark.timeout(60)

# On the root, and a directory that only the images have.
PLACES = {"indirect": "/mnt", "direct": "/srv/deep/direct"}
# What triggers it.
NAMES = {"indirect": "/mnt/name/hello", "direct": "/srv/deep/direct/hello"}


@pytest.fixture
def machine(tmp_path):
    with Machine(tmp_path) as made:
        for image in made.images.values():
            image.conf(Upgrade={"FreezeTimeoutSec": "300ms"})
            image.write("srv/deep/direct/.empty", "")
        yield made.start()


def types(machine, place):
    return [line.split(" - ")[1].split()[0] for line in machine.path("/proc/1/mountinfo").read_text().splitlines()
            if line.split()[4] == place]


@pytest.mark.parametrize("inside", [False, True], ids=["daemon beyond", "daemon of the tree"])
@pytest.mark.parametrize("kind", PLACES)
def test_moved_and_not_triggered(machine, kind, inside):
    daemon = Daemon(machine, AUTOFS, PLACES[kind], kind, inside=inside)
    for image in ("two", "one"):
        plan = machine.json("plan", f"/run/images/{image}")
        assert {"path": PLACES[kind], "action": "move", "fstype": "autofs"}.items() <= next(
            m for m in plan["mounts"] if m["path"] == PLACES[kind]).items()
        code, told = machine.upgrade(image)
        assert (code, last_word(told)) == (0, "committed")
        assert types(machine, PLACES[kind]) == ["autofs"]
    assert machine.run("cat", NAMES[kind]).stdout == SERVED
    daemon.asked()
    # Triggered, what was mounted moves with it, and it can be triggered again.
    assert machine.upgrade("two")[0] == 0
    assert machine.run("cat", NAMES[kind]).stdout == SERVED
    mounted = NAMES[kind].removesuffix("/hello")
    assert "tmpfs" in types(machine, mounted)
    machine.run("umount", mounted)
    if kind == "direct":
        assert machine.run("cat", NAMES[kind]).stdout == SERVED
        daemon.asked()
        machine.run("umount", mounted)
    assert daemon.end() == 0


@pytest.mark.parametrize("kind", PLACES)
def test_rollback(machine, kind):
    daemon = Daemon(machine, AUTOFS, PLACES[kind], kind)
    assert machine.initctl("upgrade", "--no-auto-commit", "/run/images/two").returncode == 0
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.run("cat", NAMES[kind]).stdout == SERVED
    daemon.asked()
    machine.run("umount", NAMES[kind].removesuffix("/hello"))
    assert daemon.end() == 0


@pytest.mark.parametrize("inside", [False, True], ids=["daemon beyond", "daemon of the tree"])
@pytest.mark.parametrize("kind", PLACES)
def test_somebody_waits_in_it(machine, kind, inside):
    daemon = Daemon(machine, AUTOFS, PLACES[kind], kind, "hold", inside=inside)
    waiter = machine.popen("cat", NAMES[kind], cgroup="waiter")
    daemon.asked()
    code, told = machine.upgrade("two", check=False, timeout=10)
    said = last_word(told)
    assert code == 3 and re.search(r"did not freeze within 300 ms: \d+ \(cat, of waiter\) is in syscall \d+ at autofs_wait|"
                                   r"the automount at /srv/deep/direct is being mounted", said), said
    assert machine.image() == "one" and types(machine, PLACES[kind]) == ["autofs"]
    assert_thawed(machine)
    daemon.answer()
    assert waiter.communicate(timeout=10)[0] == SERVED
    assert machine.upgrade("two")[0] == 0
    machine.run("umount", NAMES[kind].removesuffix("/hello"))
    assert daemon.end() == 0


def test_in_another_namespace(machine):
    """It has a copy of the mount: moved in there as well, and what is triggered there is mounted here, by the daemon."""
    daemon = Daemon(machine, AUTOFS, "/mnt", "indirect")
    shell = machine.popen("unshare", "-m", "sh", "-c", "echo ready; read line; ls -d /mnt", cgroup="shell", stdin=-1)
    assert shell.stdout.readline() == "ready\n"
    assert machine.upgrade("two")[0] == 0
    assert shell.communicate("\n", timeout=10)[0] == "/mnt\n"
    assert machine.run("cat", "/mnt/name/hello").stdout == SERVED
    daemon.asked()
    machine.run("umount", "/mnt/name")
    assert daemon.end() == 0
