# SPDX-License-Identifier: MIT
"""What goes wrong after the swap is undone: exit code 4, everything as before, and nobody noticed."""
import subprocess

import pytest
from load_inside import LoadInside
from machine import BUILD, TOP, Machine, wait_until
from outside import Snapshot, assert_thawed, last_word, mount_table, stragglers

pytestmark = pytest.mark.timeout(120)

SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n"
WEB = """[Service]
Type=notify
ExecStart=/usr/bin/web
[Socket]
ListenStream=8080
[Upgrade]
Policy=handover
ReadyTimeoutSec=500ms
"""
# Comes before the web in the order of the upgrade, so it has moved when the web fails.
FIRST = """[Unit]
Before=web.service
[Service]
ExecStart=/bin/sleep 1000
[Upgrade]
Policy=restart
"""


def lay_out(machine, **broken):
    """web.service on all images; on image two its program is replaced by what `broken` says."""
    for image in machine.images.values():
        image.conf(services=["first.service", "web.service", "kept.service"])
        image.service("first", FIRST)
        image.service("kept", SLEEPER)
        image.service("web", WEB)
        image.copy(BUILD / "tools/web", "usr/bin/web")


def rolled_back(machine, word, image="two", timeout=30):
    """An upgrade that must be rolled back for that reason; everything is as before."""
    before = Snapshot(machine)
    code, told = machine.upgrade(image, check=False, timeout=timeout)
    assert code == 4, f"{told}\n{machine.report()}"
    assert last_word(told).startswith("rolled back: ") and word in last_word(told), last_word(told)
    wait_until(lambda: machine.json("status")["system"]["state"] == "running")
    after = Snapshot(machine)
    assert after.generation == before.generation and after.root == before.root, machine.report()
    assert places(after.mounts) == places(before.mounts), machine.report()
    assert machine.image() == machine.first
    assert stragglers(machine) == [], machine.report()
    assert_thawed(machine)
    return told


def places(mounts):
    return sorted(point for _, point in mounts.values() if not point.startswith("/run/molt/vault"))


def stands_on(machine, name, link="exe"):
    """Whether the main process runs from the image that is the root now."""
    return wait_until(lambda: [machine.mount_id(pid, link) for pid in machine.service_pids(name)]
                      == [machine.mount_id(machine.pid)], what=f"{name} on the root's image")


BROKEN = {
    "never ready": ("#!/bin/sh\nexec sleep 1000\n", "not ready on the new image within 500 ms"),
    "exits at once": ("#!/bin/sh\nexit 7\n", "exited with code 7 before it was ready"),
    "cannot be executed": ("no program\n", "exited with code 203"),
    "crashes": ("#!/bin/sh\nkill -SEGV $$\n", "was killed by SIGSEGV"),
    "ready and gone": ("#!/bin/sh\nsystemd-notify --ready || exit 9\nexit 0\n", ""),
}


@pytest.mark.parametrize("how", [how for how in BROKEN if how != "ready and gone"])
def test_handover_that_fails(machine, how):
    lay_out(machine)
    program, word = BROKEN[how]
    machine.images["two"].write("usr/bin/web", program, 0o755)
    machine.start()
    web = machine.wait_state("web")["main_pid"]
    kept = machine.wait_state("kept")["main_pid"]
    machine.wait_state("first")
    with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False},
                                   {"name": "kept", "port": 8080, "keep_alive": True}]) as load:
        told = rolled_back(machine, word)
        assert machine.unit("web")["main_pid"] == web, "the old instance was replaced\n" + machine.report()
    assert load.stats["failed"] == 0, load.stats
    assert load.group("new")["servers"].keys() == {"molt-web version=one"}
    assert machine.unit("kept")["main_pid"] == kept
    assert any("first.service: done" in e.get("text", "") for e in told), told
    for name in ("web", "first"):
        machine.wait_state(name)
        stands_on(machine, name)
    # Nothing bars the next one.
    machine.images["two"]
    assert machine.upgrade("one")[0] == 0


def test_restart_that_fails_runs_on_the_old_image_again(machine):
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["once.service"])
        image.copy("/bin/sleep", "usr/bin/once")
        image.service("once", "[Service]\nType=exec\nExecStart=/usr/bin/once 1000\n[Upgrade]\nPolicy=restart\n")
    machine.images["two"].write("usr/bin/once", "no program\n", 0o755)
    machine.start()
    machine.wait_state("once")
    rolled_back(machine, "once.service: it did not start again")
    machine.wait_state("once")
    stands_on(machine, "once")


def test_reexec_that_ends_the_service(machine):
    """A daemon that ends where it should have re-executed itself: rolled back, and the old version is started again."""
    lay_out(machine)
    daemon = "#!/bin/sh\ntrap 'kill $!; sleep 0.2 & exit 0' USR2\nwhile :; do sleep 1000 & wait; done\n"
    for image in machine.images.values():
        image.conf(services=["frail.service"])
        image.write("usr/bin/frail", daemon, 0o755)
        image.service("frail", "[Service]\nExecStart=/bin/sh /usr/bin/frail\n"
                               "[Upgrade]\nPolicy=reexec\nReexecSignal=USR2\nReadyTimeoutSec=2s\n")
    machine.start()
    machine.wait_state("frail")
    wait_until(lambda: len(machine.service_pids("frail")) == 2, what="its child")
    rolled_back(machine, "frail.service")
    machine.wait_state("frail")


def test_service_stopped_while_it_moves(machine):
    """`initctl stop` in the middle of a service's own move: PID 1 takes it as it comes."""
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["deaf.service"])
        image.service("deaf", "[Service]\nExecStart=/bin/sh -c 'trap : USR2; while :; do sleep 0.1; done'\n"
                              "[Upgrade]\nPolicy=reexec\nReexecSignal=USR2\nReadyTimeoutSec=20s\n")
    machine.start()
    machine.wait_state("deaf")
    upgrade = machine.popen("/usr/bin/initctl", "upgrade", "/run/images/two", cgroup="client")
    wait_until(lambda: machine.image() == "two", what="the swap")
    machine.initctl("stop", "deaf")
    output, _ = upgrade.communicate(timeout=15)
    assert upgrade.returncode in (0, 4), output + machine.report()
    assert machine.unit("deaf")["state"] == "inactive", machine.report()
    assert_thawed(machine)


def test_two_that_fail_and_one_that_moved(machine):
    """More than one failure is one rollback; what moved at the same time is moved back."""
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["web.service", "other.service", "fine.service"])
        image.copy(BUILD / "tools/web", "usr/bin/other")
        image.copy(BUILD / "tools/web", "usr/bin/fine")
        image.service("other", WEB.replace("8080", "8081").replace("/web", "/other"))
        image.service("fine", WEB.replace("8080", "8082").replace("/web", "/fine"))
    for name in ("web", "other"):
        machine.images["two"].write(f"usr/bin/{name}", "#!/bin/sh\nexec sleep 1000\n", 0o755)
    machine.start()
    for name in ("web", "other", "fine"):
        machine.wait_state(name)
    with LoadInside(machine, http=[{"name": str(port), "port": port, "keep_alive": False}
                                   for port in (8080, 8081, 8082)]) as load:
        for _ in range(2):
            rolled_back(machine, "not ready")
    assert load.stats["failed"] == 0, load.stats
    for name in ("web", "other", "fine"):
        stands_on(machine, name)


# The new init itself

def test_new_init_gives_pid_1_back(tmp_path):
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        lay_out(machine)
        machine.images["two"].copy(BUILD / "tools/badinit", "usr/sbin/init")
        machine.images["two"].write("etc/badinit", "yes back")
        gives_back(machine)


@pytest.fixture(scope="session")
def molt_without_memory(tmp_path_factory):
    """A molt that says it can take over and then cannot take up the state. It may have to be built, or waited for while
    somebody else does: that is not the time of the test that comes first."""
    build = BUILD / "nostate"
    subprocess.run(["flock", str(BUILD / "nostate.lock"), "make", "-s", "-C", str(TOP),
                    f"BUILD={build}", "CFLAGS=-O2 -g -DMOLT_TEST_NO_STATE", str(build / "molt")], check=True, timeout=900)
    return build / "molt"


@pytest.mark.timeout(120, func_only=True)
def test_new_molt_that_cannot_take_the_state(tmp_path, molt_without_memory):
    with Machine(tmp_path, images=("one", "two", "three")) as machine:
        lay_out(machine)
        machine.images["two"].copy(molt_without_memory, "usr/sbin/init")
        gives_back(machine)
        assert "cannot take up the state" in machine.log()


def gives_back(machine):
    machine.start()
    for name in ("web", "first", "kept"):
        machine.wait_state(name)
    before = Snapshot(machine)
    with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False}]) as load:
        rolled_back(machine, "could not take over the state")
    assert load.stats["failed"] == 0, load.stats
    after = Snapshot(machine)
    assert after.services["kept.service"] == before.services["kept.service"]
    assert after.services["web.service"] == before.services["web.service"]
    assert after.start == before.start
    stands_on(machine, "web")
    assert machine.mount_id(machine.pid, "exe") == machine.mount_id(machine.pid)
    code, told = machine.upgrade("three")
    assert (code, last_word(told)) == (0, "committed")


def test_new_init_that_cannot_be_executed(tmp_path):
    """It could when it was asked."""
    with Machine(tmp_path, images=("one", "two", "three"), writable=("two",)) as machine:
        lay_out(machine)
        machine.images["two"].copy(BUILD / "tools/badinit", "usr/sbin/init")
        machine.images["two"].write("etc/badinit", "spoil")
        machine.start()
        rolled_back(machine, "cannot execute the new init")
        code, told = machine.upgrade("three")
        assert (code, last_word(told)) == (0, "committed")


# Commit and rollback by hand

@pytest.fixture
def by_hand(machine):
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["first.service", "web.service", "kept.service"],
                   Upgrade={"AutoCommit": "no", "CommitTimeoutSec": "60s"})
    machine.start()
    for name in ("web", "first", "kept"):
        machine.wait_state(name)
    return machine


def uncommitted(machine, image="two"):
    code, told = machine.upgrade(image)
    assert code == 0 and "not committed yet" in last_word(told), told
    status = machine.json("status")["system"]
    assert status["state"] == "uncommitted" and machine.image() == image, status
    stands_on(machine, "web")
    stands_on(machine, "first")
    return told


def test_commit_by_hand(by_hand):
    machine = by_hand
    uncommitted(machine)
    result = machine.initctl("upgrade", "/run/images/one", check=False)
    assert result.returncode == 5 and "not committed" in result.stdout, result.stdout
    assert machine.initctl("commit").stdout.strip().endswith("committed")
    assert machine.json("status")["system"]["state"] == "running" and machine.image() == "two"
    for verb in ("commit", "rollback"):
        result = machine.initctl(verb, check=False)
        assert result.returncode == 1 and "nothing to" in result.stdout, result.stdout
    assert not [p for _, p in mount_table(machine).values() if p.startswith("/run/molt/vault/")], "the old root"


def test_rollback_by_hand(by_hand):
    machine = by_hand
    for _ in range(2):
        uncommitted(machine)
        result = machine.initctl("rollback", check=False)
        assert result.returncode in (0, 4) and "rolled back" in result.stdout, result.stdout + machine.report()
        assert machine.image() == "one"
        for name in ("web", "first"):
            machine.wait_state(name)
            stands_on(machine, name)
        assert stragglers(machine) == []
        assert_thawed(machine)


def test_uncommitted_across_a_reexec(by_hand):
    machine = by_hand
    uncommitted(machine)
    machine.initctl("reexec")
    assert machine.json("status")["system"]["state"] == "uncommitted"
    machine.initctl("rollback", check=False)
    wait_until(lambda: machine.image() == "one", what="the rollback")


def test_nobody_commits(machine):
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["web.service", "first.service"],
                   Upgrade={"AutoCommit": "no", "CommitTimeoutSec": "700ms"})
    machine.start()
    machine.wait_state("web")
    uncommitted(machine)
    wait_until(lambda: "rolled back: nobody committed it" in machine.log(), what="the rollback")
    assert machine.image() == "one" and machine.json("status")["system"]["generation"] == 1
    stands_on(machine, "web")
    assert_thawed(machine)


# Re-executes itself as nginx does: the PID file is moved away, the new one forked, and back if that ends.
LIKE_NGINX = """#!/usr/bin/python3
import os, signal, sys, time
PID = "/run/likengx.pid"
def write():
    with open(PID + ".new", "w") as f:
        f.write("%d\\n" % os.getpid())
    os.rename(PID + ".new", PID)
def usr2(*_):
    os.rename(PID, PID + ".oldbin")
    child = os.fork()
    if child == 0:
        os.execv("/usr/bin/likengx", ["/usr/bin/likengx"])
    os.waitpid(child, 0)
    os.rename(PID + ".oldbin", PID)
signal.signal(signal.SIGUSR2, usr2)
write()
while True:
    time.sleep(1000)
"""


def test_a_new_main_process_that_fails_is_noticed_at_once(machine):
    """Not only when ReadyTimeoutSec= is over."""
    lay_out(machine)
    for image in machine.images.values():
        image.conf(services=["likengx.service"])
        image.write("usr/bin/likengx", LIKE_NGINX, 0o755)
        image.service("likengx", "[Service]\nExecStart=/usr/bin/likengx\nPIDFile=/run/likengx.pid\n"
                                 "[Upgrade]\nPolicy=reexec\nReexecSignal=USR2\nReadyTimeoutSec=60\n")
    machine.images["two"].write("usr/bin/likengx", "#!/bin/sh\nsleep 0.05\nexit 1\n", 0o755)
    machine.start()
    pid = machine.wait_state("likengx")["main_pid"]
    wait_until(lambda: machine.path("/run/likengx.pid").exists())
    rolled_back(machine, "likengx.service: the new main process that it made ended before it was ready")
    assert machine.unit("likengx")["main_pid"] == pid


def test_one_that_forks_itself_arrives(machine):
    """Its main process is known by its PID file, and was never ours to see exec."""
    for image in machine.images.values():
        image.conf(services=["forks"])
        image.service("forks", "[Service]\nType=forking\nPIDFile=/run/forks.pid\n"
                      "ExecStart=/bin/sh -c 'sleep 1000 & echo $! >/run/forks.pid'\n"
                      "[Upgrade]\nPolicy=restart\nReadyTimeoutSec=10\n")
    machine.start()
    machine.wait_state("forks")
    code, told = machine.upgrade("two", check=False)
    assert code == 0, last_word(told)
