# SPDX-License-Identifier: MIT
"""Unix sockets that are bound on the image between the plan and the freeze: a hook of the upgrade holds it up there."""
import shutil

import pytest
from helpers import wait_file
from machine import BUILD, wait_until
from outside import assert_thawed, stragglers
from test_holders import FOUND, PLACE, TOOL, Possessor, writable  # noqa: F401
from test_hooks import hook

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def held_up(writable):  # noqa: F811
    for image in writable.images.values():
        hook(image, "pre-upgrade", "wait", "echo > /run/share/asked; while [ ! -e /run/share/on ]; do sleep 0.01; done")
    return writable.start()


def upgrade(machine, meanwhile, *options, target="two"):
    """The last word of an upgrade during which, after the plan and before the freeze, meanwhile() happens."""
    for name in ("asked", "on"):
        (machine.share / name).unlink(missing_ok=True)
    client = machine.popen("/usr/bin/initctl", "upgrade", *options, f"/run/images/{target}")
    wait_until((machine.share / "asked").exists, what="the hook")
    result = meanwhile()
    (machine.share / "on").touch()
    said, _ = client.communicate(timeout=30)
    return client.returncode, said, result


@pytest.mark.parametrize("kind", ["listen", "datagram", "relative", "foreign-network"])
def test_refused_by_name(held_up, kind):
    machine = held_up
    root = machine.mount_id(machine.pid)
    # A relative name is looked up where its holder stands.
    kinds = [kind, "cwd"] if kind == "relative" else [kind]
    code, said, holder = upgrade(machine, lambda: Possessor(machine, *kinds, cgroup="late"))
    assert code == 3, said
    assert f"(possess) has the unix socket {FOUND[kind][2]} bound on the old image: nobody would find it any more" in said
    assert machine.image() == "one" and machine.mount_id(machine.pid) == root and stragglers(machine) == []
    assert_thawed(machine)
    holder.end()
    for path in machine.path(PLACE).iterdir():
        path.unlink() if path.is_socket() else None
    code, said, _ = upgrade(machine, lambda: None)
    assert code == 0, said


@pytest.mark.parametrize("kind", ["accepted", "removed-socket", "elsewhere"])
def test_what_is_not_lost_is_no_reason(held_up, kind):
    machine = held_up
    code, said, _ = upgrade(machine, lambda: Possessor(machine, kind, cgroup="late"))
    assert code == 0, f"{said}\n{machine.report()}"


def test_force_says_yes(held_up):
    machine = held_up
    code, said, _ = upgrade(machine, lambda: Possessor(machine, "listen", cgroup="late"), "--force")
    assert code == 0, f"{said}\n{machine.report()}"


def test_in_a_private_mount_namespace(held_up):
    """By a name that lies on the namespace's copy of the image."""
    machine = held_up
    code, said, _ = upgrade(machine, lambda: Possessor(machine, "namespace", "listen", cgroup="late"))
    assert code == 3 and f"{PLACE}/stream bound on the old image" in said, f"{said}\n{machine.report()}"


def test_by_a_service_that_is_replaced(writable):  # noqa: F811
    machine = writable
    shutil.copy2(BUILD / "tools/possess", machine.share / "possess")
    for image in machine.images.values():
        hook(image, "pre-upgrade", "wait", "echo > /run/share/asked; while [ ! -e /run/share/on ]; do sleep 0.01; done")
        image.service("owner", f"[Service]\nExecStart=/bin/sh -c 'until [ -e /run/share/bind ]; do sleep 0.01; done; rm -f {PLACE}/stream; "
                               f"sleep 1000 | exec {TOOL} {PLACE} listen > /run/share/bound'\n[Upgrade]\nPolicy=restart\n")
        image.conf(services=["owner.service"])
    machine.start()
    machine.wait_state("owner")

    def bind():
        (machine.share / "bind").touch()
        wait_file(machine.share / "bound")

    code, said, _ = upgrade(machine, bind)
    assert code == 0, f"{said}\n{machine.report()}"


def test_by_somebody_who_is_not_of_the_tree(held_up):
    machine = held_up
    code, said, holder = upgrade(machine, lambda: Possessor(machine, "listen", cgroup="../beyond"))
    assert code == 3 and f"a process that is not in sight has the unix socket {PLACE}/stream bound on the old image" in said, said
    holder.end()
