# SPDX-License-Identifier: MIT
"""Sockets that one image's unit has and the other's has not."""
import pytest

from helpers import service, start, stop
from machine import BUILD, wait_until

pytestmark = pytest.mark.timeout(120)

WEB = """[Service]
Type=notify
ExecStart=/usr/bin/web
[Socket]
{sockets}
[Upgrade]
Policy={policy}
ReadyTimeoutSec=500ms
"""
OLD, NEW, BOTH = "/run/old.sock", "/run/new.sock", "8080"


def lay_out(machine, policy, auto_commit="yes"):
    for image, extra in (("one", OLD), ("two", NEW)):
        machine.images[image].conf(services=["web.service"], Upgrade={"AutoCommit": auto_commit})
        machine.images[image].service("web", WEB.format(
            policy=policy, sockets=f"ListenStream={BOTH}\nListenStream={extra}"))
        machine.images[image].copy(BUILD / "tools/web", "usr/bin/web")
    machine.start()
    machine.wait_state("web")


def inode(machine, path):
    try:
        return machine.path(path).stat().st_ino
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("policy", ["restart", "handover"])
def test_a_dropped_socket_goes_at_the_commit(machine, policy):
    lay_out(machine, policy, auto_commit="no")
    before = inode(machine, OLD)
    machine.upgrade("two")
    machine.wait_state("web")
    assert inode(machine, OLD) == before, "a rollback would miss it\n" + machine.report()
    assert inode(machine, NEW)
    machine.initctl("commit")
    assert inode(machine, OLD) is None, machine.report()
    assert [address for address in machine.unit("web")["listen"]] == [BOTH, NEW]


@pytest.mark.parametrize("policy", ["restart", "handover"])
def test_a_rollback_finds_it_with_who_waits_in_it(machine, policy):
    lay_out(machine, policy)
    before = inode(machine, OLD)
    code, told = fail(machine)
    assert code == 4, (told, machine.report())
    machine.wait_state("web")
    assert inode(machine, OLD) == before, "the socket was another one for a while"
    wait_until(lambda: inode(machine, NEW) is None, what="the end of the new image's socket")
    assert [address for address in machine.unit("web")["listen"]] == [BOTH, OLD]


def fail(machine):
    """An upgrade that web itself lets fail: its program never gets ready."""
    directory = machine.path("/run/molt/system/web.service.d")
    directory.mkdir(parents=True)
    # Read by the new image's life alone: no one has restarted web in between.
    (directory / "x.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/sh -c "
                                      "'grep -q two /etc/os-release && exec sleep 1000; exec /usr/bin/web'\n")
    return machine.upgrade("two", check=False)


def test_somebody_elses_file_stays(machine):
    machine.start()
    service(machine, "a", sections=f"[Socket]\nListenStream={OLD}\n")
    start(machine, "a")
    machine.path(OLD).unlink()
    service(machine, "b", sections=f"[Socket]\nListenStream={OLD}\n")
    start(machine, "b")
    of_b = inode(machine, OLD)
    service(machine, "a", sections="[Socket]\nListenStream=@other\n")
    start(machine, "a", verb="restart")
    assert inode(machine, OLD) == of_b
    service(machine, "b", sections="[Socket]\nListenStream=@another\n")
    start(machine, "b", verb="restart")
    assert inode(machine, OLD) is None
    stop(machine, "b")
