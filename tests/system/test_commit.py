# SPDX-License-Identifier: MIT
"""Commit control: who commits, by when, and the way back that stays open after it."""
import os
import signal

import pytest
from helpers import start
from load_inside import LoadInside
from machine import BUILD, Machine, wait_until
from outside import Snapshot, assert_thawed, last_word, mount_table, stragglers
from test_hooks import hook, note, trace
from test_rollback import WEB, stands_on

pytestmark = pytest.mark.timeout(60)

SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=restart\n"
IMAGES = ("one", "two", "three")


@pytest.fixture
def laid_out(tmp_path):
    with Machine(tmp_path, images=IMAGES) as machine:
        configure(machine)
        for image in machine.images.values():
            image.service("a", SLEEPER)
        yield machine


def configure(machine, services=("a.service",), **keys):
    for image in machine.images.values():
        image.conf(services=services, Upgrade={"RollbackWindowSec": "60s"} | keys)


def started(machine):
    machine.start()
    machine.wait_state("a")
    return machine


def state(machine):
    return machine.json("status")["system"]["state"]


def attached(machine):
    """What status and holders say of the generation to go back to: the same, but for the time."""
    told = machine.json("status")["attached"]
    if told and (told["left_usec"] is None or told["left_usec"] > 10e6):
        other = machine.json("holders")["attached"]
        assert other and other["generation"] == told["generation"] and other["committed"] == told["committed"]
    return told


def slots(machine):
    return sorted(p for _, p in mount_table(machine).values() if p.startswith("/run/molt/vault/"))


def to(machine, image, *options, word="committed"):
    code, told = machine.upgrade(image, *options)
    assert code == 0 and last_word(told).startswith(word), f"{told}\n{machine.report()}"
    assert machine.image() == image
    return told


def back(machine, image, code=4, timeout=30):
    result = machine.initctl("rollback", check=False, timeout=timeout)
    assert result.returncode == code, result.stdout + machine.report()
    assert result.stdout.splitlines()[-1] == "rolled back: asked for by `initctl rollback`", result.stdout
    assert machine.image() == image and state(machine) == "running"
    assert_thawed(machine)
    return result.stdout


# Who commits

def test_no_auto_commit(laid_out):
    machine = started(laid_out)
    told = to(machine, "two", "--no-auto-commit", word="not committed yet: `initctl commit` keeps it")
    assert "by itself in 600 s" in last_word(told)
    assert state(machine) == "uncommitted"
    choice = attached(machine)
    assert choice["generation"] == 1 and not choice["committed"] and 590e6 < choice["left_usec"] <= 600e6
    assert "`initctl commit` keeps it" in machine.initctl("status").stdout
    for verb in (["upgrade", "/run/images/three"], ["release"]):
        result = machine.initctl(*verb, check=False)
        assert result.returncode == 5 and "is not committed yet" in result.stdout
    result = machine.initctl("commit")
    assert result.stdout.splitlines()[-1] == "committed" and state(machine) == "running"


def test_auto_commit_in_spite_of_the_configuration(laid_out):
    configure(laid_out, AutoCommit="no")
    machine = started(laid_out)
    to(machine, "two", "--auto-commit")
    assert state(machine) == "running"
    to(machine, "three", word="not committed yet")


def test_commit_within_expires(laid_out):
    """Nobody has to be there: PID 1 rolls back by itself, and the client was told when."""
    machine = started(laid_out)
    hook(machine.images["one"], "commit", "50", note(""))
    told = to(machine, "two", "--commit-within", "1500ms", word="not committed yet")
    assert last_word(told).endswith("so does PID 1 by itself in 2 s")
    wait_until(lambda: "rolled back: nobody committed it within --commit-within (1.500 s)" in machine.log(),
               what="the rollback")
    wait_until(lambda: state(machine) == "running")
    assert machine.image() == "one" and attached(machine) is None and trace(machine) == []
    stands_on(machine, "a")


def test_commit_within_in_time(laid_out):
    machine = started(laid_out)
    to(machine, "two", "--commit-within=1min", word="not committed yet")
    assert 50e6 < attached(machine)["left_usec"] <= 60e6
    machine.initctl("commit")
    assert "generation 1 stays attached for RollbackWindowSec=" in machine.log()


def test_commit_within_infinity(laid_out):
    machine = started(laid_out)
    told = to(machine, "two", "--commit-within=infinity", word="not committed yet")
    assert "by itself" not in last_word(told) and attached(machine)["left_usec"] is None
    machine.initctl("reexec")
    assert attached(machine) == {"generation": 1, "committed": False, "left_usec": None}
    machine.initctl("commit")


@pytest.mark.parametrize("span", ["0", "soon", "-5", "5 parsecs", ""])
def test_commit_within_nonsense(laid_out, span):
    machine = started(laid_out)
    result = machine.initctl("upgrade", f"--commit-within={span}", "/run/images/two", check=False)
    assert result.returncode == 2 and f"--commit-within={span}: that is no time span. 90 (seconds), 5min" in result.stdout
    assert machine.image() == "one"


def test_commit_hooks_run_at_the_commit(laid_out):
    machine = laid_out
    hook(machine.images["two"], "post-pivot", "50", note("$MOLT_PHASE"))
    hook(machine.images["two"], "commit", "50", note("$MOLT_PHASE"))
    started(machine)
    to(machine, "two", "--no-auto-commit", word="not committed yet")
    assert trace(machine) == ["/etc/molt/post-pivot.d/50 post-pivot"]
    machine.initctl("commit")
    assert trace(machine)[1:] == ["/etc/molt/commit.d/50 commit"]


def test_commit_hook_that_fails_at_the_commit(laid_out):
    """Hours later, perhaps: whoever commits is told, and everything goes back."""
    machine = laid_out
    hook(machine.images["two"], "commit", "50", "echo no ESP; exit 1")
    hook(machine.images["one"], "commit", "50", note("$MOLT_ROLLBACK"))
    started(machine)
    to(machine, "two", "--no-auto-commit", word="not committed yet")
    result = machine.initctl("commit", check=False)
    assert result.returncode == 4
    assert result.stdout.splitlines()[-1] == "rolled back: /etc/molt/commit.d/50 exited with 1: no ESP"
    assert machine.image() == "one" and trace(machine) == ["/etc/molt/commit.d/50 yes"]


def test_uncommitted_with_its_options_across_a_reexec(laid_out):
    machine = started(laid_out)
    to(machine, "two", "--commit-within=3s", word="not committed yet")
    machine.initctl("reexec")
    assert state(machine) == "uncommitted" and 0 < attached(machine)["left_usec"] <= 3e6
    wait_until(lambda: "rolled back: nobody committed it within --commit-within (3.000 s)" in machine.log(),
               what="the rollback")
    assert machine.image() == "one"


# The way back after the commit

def test_rollback_after_the_commit(laid_out):
    machine = started(laid_out)
    to(machine, "two")
    choice = attached(machine)
    assert choice["generation"] == 1 and choice["committed"] and 50e6 < choice["left_usec"] <= 60e6
    assert "Generation 1 is attached for " in machine.initctl("status").stdout
    assert "`initctl rollback` goes back to it" in machine.initctl("holders").stdout
    assert len(slots(machine)) == 1
    back(machine, "one")
    stands_on(machine, "a")
    assert stragglers(machine) == [] and attached(machine) is None and slots(machine) == []
    result = machine.initctl("rollback", check=False)
    assert result.returncode == 1 and "nothing to roll back to" in result.stdout
    to(machine, "two")
    assert machine.json("status")["system"]["generation"] == 3


def test_rollback_after_the_commit_runs_the_old_commit_hooks(laid_out):
    """The boot default is what runs, and it is said that it was changed."""
    machine = laid_out
    for name in IMAGES:
        hook(machine.images[name], "commit", "50", f"echo {name} > /run/share/default; echo set")
    started(machine)
    to(machine, "two")
    assert (machine.share / "default").read_text() == "two\n"
    said = back(machine, "one")
    assert (machine.share / "default").read_text() == "one\n"
    assert "the boot default is that of generation 1 again (its commit hooks have run)" in said
    assert "/etc/molt/commit.d/50: set (" in said


def test_rollback_after_the_commit_keeps_connections(laid_out):
    machine = laid_out
    configure(machine, ("a.service", "web.service", "kept.service"))
    for image in machine.images.values():
        image.service("web", WEB.replace("500ms", "10s"))
        image.service("kept", "[Service]\nExecStart=/usr/bin/web 8081\n")
        image.copy(BUILD / "tools/web", "usr/bin/web")
    started(machine)
    machine.wait_state("web")
    kept = machine.wait_state("kept")["main_pid"]
    with LoadInside(machine, http=[{"name": "new", "port": 8080, "keep_alive": False}]) as load:
        to(machine, "two")
        back(machine, "one")
        stands_on(machine, "web")
    assert load.stats["failed"] == 0, load.stats
    assert load.group("new")["servers"].keys() >= {"molt-web version=one", "molt-web version=two"}
    assert machine.unit("kept")["main_pid"] == kept


def test_rollback_after_the_commit_takes_services_as_they_are_now(laid_out):
    """What was stopped since the upgrade stays stopped; what was started since runs on the image gone back to."""
    for image in laid_out.images.values():
        for name in ("late", "gone", "ended"):
            image.service(name, SLEEPER)
    machine = started(laid_out)
    start(machine, "gone")
    start(machine, "ended")
    to(machine, "two")
    start(machine, "gone", verb="stop")
    start(machine, "late")
    os.kill(machine.service_pids("ended")[0], signal.SIGTERM)
    wait_until(lambda: machine.unit("ended")["state"] in ("inactive", "failed"), what="its end")
    back(machine, "one")
    assert machine.unit("gone")["state"] == "inactive"
    assert machine.unit("ended")["state"] in ("inactive", "failed")
    machine.wait_state("late")
    stands_on(machine, "late")


def test_what_drains_does_not_bar_the_way_back(laid_out):
    """An old instance in the middle of its last requests is ended when ReadyTimeoutSec= is over, and no service stays."""
    machine = laid_out
    configure(machine, ("a.service", "slow.service"))
    text = ("[Service]\nType=exec\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; "
            "done'\n[Socket]\nListenStream=8090\n[Upgrade]\nPolicy=handover\nReadyTimeoutSec=1s\n")
    for image in machine.images.values():
        image.service("slow", text)
    started(machine)
    machine.wait_state("slow")
    to(machine, "two")
    back(machine, "one")
    assert "slow.service: what still drains from before is killed" in machine.log()
    machine.wait_state("slow")
    assert machine.unit("slow")["exe_generation"] == 1


def test_what_drains_refuses_the_next_upgrade(laid_out):
    """In a few seconds and before anything is touched; the plan says so as well."""
    machine = laid_out
    configure(machine, ("a.service", "slow.service"))
    for image in machine.images.values():
        image.service("slow", "[Service]\nType=exec\nExecStart=/bin/sh -c 'trap \"\" TERM; "
                              "while :; do sleep 0.1; done'\n[Socket]\nListenStream=8090\n[Upgrade]\nPolicy=handover\n")
    hook(machine.images["two"], "pre-upgrade", "50", note(""))
    started(machine)
    machine.wait_state("slow")
    to(machine, "two")
    before = Snapshot(machine)
    plan = machine.json("plan", "/run/images/three")
    assert any("slow.service still drains" in w for w in plan["warnings"]), plan
    result = machine.initctl("upgrade", "/run/images/three", check=False, timeout=10)
    assert result.returncode == 3 and "slow.service still drains: its process" in result.stdout.splitlines()[-1]
    assert trace(machine) == [] and Snapshot(machine) == before


# Letting go

def test_window_that_ends(laid_out):
    configure(laid_out, RollbackWindowSec="1s")
    machine = started(laid_out)
    to(machine, "two")
    assert attached(machine)["generation"] == 1
    wait_until(lambda: attached(machine) is None, what="the end of the window")
    assert slots(machine) == [] and "generation 1 is detached" in machine.log()
    result = machine.initctl("rollback", check=False)
    assert result.returncode == 1 and "the one before it released" in result.stdout
    wait_until(lambda: "generation 1 is released: nothing holds it any more" in machine.log(), what="the release")


def test_window_of_nothing_and_without_end(laid_out):
    configure(laid_out, RollbackWindowSec="0")
    laid_out.images["three"].conf(services=["a.service"], Upgrade={"RollbackWindowSec": "infinity"})
    machine = started(laid_out)
    to(machine, "two")
    assert attached(machine) is None and slots(machine) == []
    to(machine, "three")
    assert attached(machine) == {"generation": 2, "committed": True, "left_usec": None}
    assert "attached until the next upgrade" in machine.initctl("status").stdout


def test_release(laid_out):
    machine = started(laid_out)
    result = machine.initctl("release", check=False)
    assert result.returncode == 1 and "nothing to release" in result.stdout
    to(machine, "two")
    assert "generation 1 is detached: there is no way back to it any more" in machine.initctl("release").stdout
    assert attached(machine) is None and slots(machine) == []
    assert machine.initctl("rollback", check=False).returncode == 1


def test_next_upgrade_releases_the_one_before(laid_out):
    """Two roots at most; a refused upgrade leaves the way back as it was."""
    machine = started(laid_out)
    to(machine, "two")
    machine.run("sh", "-c", "touch /run/no")
    assert machine.initctl("upgrade", "/run/no", check=False).returncode == 3
    assert attached(machine)["generation"] == 1
    to(machine, "three")
    assert attached(machine)["generation"] == 2 and len(slots(machine)) == 1
    back(machine, "two")
    assert attached(machine) is None and slots(machine) == []
    wait_until(lambda: "generation 1 is released" in machine.log(), what="the release")


def test_attached_across_a_reexec(laid_out):
    machine = started(laid_out)
    to(machine, "two")
    for _ in range(2):
        machine.initctl("reexec")
        choice = attached(machine)
        assert choice["generation"] == 1 and choice["committed"] and 50e6 < choice["left_usec"] <= 60e6
    back(machine, "one")
    stands_on(machine, "a")


# There already

def test_already_there(laid_out):
    """Nothing is touched, no hook runs, and that is a success."""
    machine = laid_out
    for phase in ("pre-upgrade", "post-pivot", "commit"):
        for image in machine.images.values():
            hook(image, phase, "50", note(""))
    started(machine)
    machine.run("sh", "-c", "ln -s / /run/loop; mkdir /run/bound; mount --bind / /run/bound")
    for path in ("/", "/run/loop", "/run/bound"):
        before = Snapshot(machine)
        for verb in (["upgrade"], ["upgrade", "--force"], ["upgrade", "--dry-run"], ["plan"]):
            result = machine.initctl(*verb, path)
            assert result.stdout.splitlines()[-1] == f"already there: {path} is the image that is running", result.stdout
            assert "freeze" not in result.stdout
        assert Snapshot(machine) == before
    assert trace(machine) == []
    to(machine, "two")
    ran = trace(machine)
    assert machine.initctl("upgrade", "/run/images/two").stdout.splitlines()[-1].startswith("already there: ")
    assert trace(machine) == ran and attached(machine)["generation"] == 1


def test_all_mounts_made_shared_meanwhile(laid_out):
    """`mount --make-rshared /`, as container engines want it, reaches even what is put away: it goes both ways still."""
    machine = laid_out
    configure(machine)
    machine.start()
    machine.upgrade("two")
    machine.run("mount", "--make-rshared", "/")
    assert machine.initctl("rollback", check=False).returncode == 4
    assert machine.image() == "one"
    machine.run("mount", "--make-rshared", "/")
    machine.upgrade("two")
    assert machine.image() == "two"
