# SPDX-License-Identifier: MIT
"""Hooks: which run, in which order, what they are told, and what comes of one that says no, hangs or misbehaves."""
import os
import re
import signal

import pytest
from helpers import down, outside, wait_file
from machine import Machine, wait_until
from outside import Snapshot, assert_thawed, last_word, stragglers

pytestmark = pytest.mark.timeout(60)

SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=restart\n"
PHASES = ("pre-upgrade", "post-pivot", "commit")


def hook(image, phase, name, text="exit 0", place="/etc/molt", mode=0o755, shell="/bin/sh"):
    image.write(f"{place}/{phase}.d/{name}", f"#!{shell}\n{text}\n", mode)


def note(text):
    """A line of shell that leaves a trace: the hook's own path and what it is told."""
    return f'echo "$0 {text}" >> /run/share/trace'


def trace(machine):
    path = machine.share / "trace"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def laid_out(tmp_path):
    with Machine(tmp_path) as machine:
        for image in machine.images.values():
            image.conf(services=["a.service"], Upgrade={"HookTimeoutSec": "20s"})
            image.service("a", SLEEPER)
        yield machine


def started(machine):
    machine.start()
    machine.wait_state("a")
    return machine


def hooks_are_gone(machine):
    """Nothing of a hook runs on, and their cgroups go without anybody waiting for the next ones."""
    return wait_until(lambda: not (machine.cgroup / "tree/molt-hooks").exists(), what="the end of the hooks")


def refused(machine, image="two"):
    before = Snapshot(machine)
    code, told = machine.upgrade(image, check=False)
    assert code == 3 and last_word(told).startswith("refused: "), f"{told}\n{machine.report()}"
    assert Snapshot(machine) == before, machine.report()
    assert_thawed(machine)
    hooks_are_gone(machine)
    return last_word(told)[len("refused: "):], told


def rolled_back(machine, image="two"):
    before = machine.unit("a")
    code, told = machine.upgrade(image, check=False)
    assert code == 4 and last_word(told).startswith("rolled back: "), f"{told}\n{machine.report()}"
    assert machine.image() == machine.first and stragglers(machine) == []
    assert machine.json("status")["system"]["generation"] == 1 and before["state"] == "running"
    machine.wait_state("a")
    assert_thawed(machine)
    hooks_are_gone(machine)
    return last_word(told)[len("rolled back: "):], told


def test_order_and_environment(laid_out):
    """pre-upgrade of the old image, post-pivot and commit of the new one, each by name, /etc before /usr/lib."""
    machine = laid_out
    tell = note("$MOLT_PHASE $MOLT_OLD_GENERATION $MOLT_NEW_GENERATION $MOLT_IMAGE ${MOLT_ROLLBACK:-no}")
    for version, image in machine.images.items():
        for phase in PHASES:
            hook(image, phase, "20-b", f"{tell}; echo {version} said this")
            hook(image, phase, "10-a", tell, place="/usr/lib/molt")
            hook(image, phase, "15-both", tell)
            hook(image, phase, "15-both", "exit 1", place="/usr/lib/molt")
            hook(image, phase, "30-masked", "exit 1", place="/usr/lib/molt")
            image.place(f"/etc/molt/{phase}.d/30-masked").symlink_to("/dev/null")
    started(machine)
    told = machine.upgrade("two")[1]
    what = "1 2 /run/images/two no"
    assert trace(machine) == [f"{path} {phase} {what}" for phase in PHASES for path in (
        f"/usr/lib/molt/{phase}.d/10-a", f"/etc/molt/{phase}.d/15-both", f"/etc/molt/{phase}.d/20-b")]
    ran = [e for e in told if e["event"] == "hook" and e["usec"] is not None]
    assert [(e["phase"], e["text"]) for e in ran if e["path"].endswith("20-b")] == [
        ("pre-upgrade", "one said this"), ("post-pivot", "two said this"), ("commit", "two said this")]
    assert all(not e["failed"] for e in ran)
    names = [e["name"] for e in told if e["event"] == "phase"]
    order = ["plan", "pre-upgrade", "prepare", "freeze", "thaw", "exec", "services", "post-pivot", "commit"]
    assert [n for n in names if n in order] == order, names
    assert [e["name"] for e in told if e["event"] == "phase" and e["blackout"]] == [
        "freeze", "verify", "seize", "pivot", "migrate", "thaw"]
    assert "/etc/molt/commit.d/20-b: two said this" in machine.log()
    assert not [e for e in told if e["event"] == "warning"], "a masked hook is left out silently"


def test_plan_lists_them_and_runs_none(laid_out):
    machine = laid_out
    for version, image in machine.images.items():
        for phase in PHASES:
            hook(image, phase, f"50-{version}", note(""))
    hook(machine.images["two"], "commit", "60-data", mode=0o644)
    started(machine)
    plan = machine.json("plan", "/run/images/two")
    assert [(h["phase"], h["path"]) for h in plan["hooks"]] == [
        ("pre-upgrade", "/etc/molt/pre-upgrade.d/50-one"), ("post-pivot", "/etc/molt/post-pivot.d/50-two"),
        ("commit", "/etc/molt/commit.d/50-two")]
    assert any("60-data is left out: it is not executable" in w for w in plan["warnings"]), plan["warnings"]
    assert trace(machine) == []
    assert machine.initctl("upgrade", "--dry-run", "/run/images/two").stdout.count("50-") == 3
    assert trace(machine) == []


def test_the_other_root(laid_out):
    """Descriptor 3: before the swap the image that is to come, after it the one that was."""
    machine = laid_out
    for image in machine.images.values():
        for phase in PHASES:
            hook(image, phase, "50", "echo $MOLT_PHASE $(sed -n s/VERSION_ID=//p "
                 "${MOLT_NEW_ROOT:-$MOLT_OLD_ROOT}/etc/os-release) >> /run/share/trace")
    started(machine).upgrade("two")
    assert trace(machine) == ['pre-upgrade "two"', 'post-pivot "one"', 'commit "one"']


def test_pre_upgrade_refuses(laid_out):
    machine = laid_out
    hook(machine.images["one"], "pre-upgrade", "50-backup", "echo no; echo; echo the disk is full >&2; exit 3")
    hook(machine.images["one"], "pre-upgrade", "60-never", note(""))
    started(machine)
    why, told = refused(machine)
    assert why == "/etc/molt/pre-upgrade.d/50-backup exited with 3: the disk is full"
    assert trace(machine) == []
    assert [e["failed"] for e in told if e["event"] == "hook" and e["usec"] is not None] == [True]
    assert "/etc/molt/pre-upgrade.d/50-backup: no" in machine.log()
    people = machine.initctl("upgrade", "/run/images/two", check=False)
    assert people.stdout.splitlines()[-1] == f"refused: {why}" and people.returncode == 3


def test_post_pivot_rolls_back(laid_out):
    """A health check of the new image: it sees it, and its no brings everything back."""
    machine = laid_out
    hook(machine.images["two"], "post-pivot", "50-check",
         ". /etc/os-release; echo $VERSION_ID is not well; exit 7")
    hook(machine.images["two"], "commit", "50", note(""))
    hook(machine.images["one"], "commit", "50", note(""))
    started(machine)
    why, _ = rolled_back(machine)
    assert why == "/etc/molt/post-pivot.d/50-check exited with 7: two is not well"
    assert trace(machine) == [], "the boot default was not changed, so there was nothing to put back"
    code, told = machine.upgrade("two", check=False)
    assert code == 4, "and it can be tried again"


def test_commit_hook_that_fails(laid_out):
    """Rolled back, and the old image's commit hooks put the boot default back, knowing why."""
    machine = laid_out
    hook(machine.images["two"], "commit", "10", "echo two > /run/share/default")
    hook(machine.images["two"], "commit", "50", "echo no space in the ESP; exit 1")
    hook(machine.images["one"], "commit", "10", "echo one > /run/share/default; " + note(
        "$MOLT_PHASE $MOLT_OLD_GENERATION $MOLT_NEW_GENERATION ${MOLT_IMAGE:-none} $MOLT_ROLLBACK"))
    started(machine)
    why, told = rolled_back(machine)
    assert why == "/etc/molt/commit.d/50 exited with 1: no space in the ESP"
    assert (machine.share / "default").read_text() == "one\n"
    assert trace(machine) == ["/etc/molt/commit.d/10 commit 2 1 none yes"]
    assert any("the boot default is that of generation 1 again" in (e.get("text") or "") for e in told)


def test_the_boot_default_cannot_be_put_back(laid_out):
    machine = laid_out
    hook(machine.images["two"], "commit", "50", "exit 1")
    hook(machine.images["one"], "commit", "50", "echo nor can I; exit 2")
    started(machine)
    why, _ = rolled_back(machine)
    assert why == ("/etc/molt/commit.d/50 exited with 1; but the boot default may be the other image: "
                   "/etc/molt/commit.d/50 exited with 2: nor can I")


@pytest.mark.parametrize("phase", PHASES)
def test_one_that_hangs(laid_out, phase):
    """Killed at its deadline with all it has started, and named."""
    machine = laid_out
    for version, image in machine.images.items():
        image.conf(services=["a.service"], Upgrade={"HookTimeoutSec": "500ms"})
    first = machine.images["one" if phase == "pre-upgrade" else "two"]
    hook(first, phase, "50-hangs", "trap '' TERM; sleep 1000 & sleep 1000")
    started(machine)
    why, _ = refused(machine) if phase == "pre-upgrade" else rolled_back(machine)
    assert why == f"/etc/molt/{phase}.d/50-hangs did not end within 500 ms (HookTimeoutSec=) and was killed"


def test_one_that_leaves_a_daemon(laid_out):
    """With the hook's own output open: nobody waits for it, and it is gone when the hook has ended."""
    machine = laid_out
    hook(machine.images["one"], "pre-upgrade", "50", "setsid sleep 1000 & echo $! > /run/share/daemon; echo left it")
    hook(machine.images["one"], "pre-upgrade", "60",
         "while [ -d /proc/$(cat /run/share/daemon) ]; do sleep 0.02; done")
    started(machine)
    told = machine.upgrade("two", timeout=15)[1]
    assert [e["text"] for e in told if e["event"] == "hook" and e["usec"] is not None][0] == "left it"
    hooks_are_gone(machine)


def test_one_that_says_too_much(laid_out):
    """10 MB: a hundred lines are kept, and the last."""
    machine = laid_out
    hook(machine.images["one"], "pre-upgrade", "50", "yes 'all is well, and so on and on' | head -c 10000000; echo; "
         "printf 'a%%b\\033[31m\\001\\tend'; exit 5")
    started(machine)
    why, _ = refused(machine)
    assert why == "/etc/molt/pre-upgrade.d/50 exited with 5: a%b?[31m? end"
    assert machine.log().count("50: all is well") == 100 and "lines more)" in machine.log()


def test_without_a_line_end(laid_out):
    """A line as long as you like is cut, and no line at all is no line."""
    machine = laid_out
    hook(machine.images["one"], "pre-upgrade", "50", "head -c 1000000 /dev/zero | tr '\\0' x; exit 1")
    started(machine)
    why, _ = refused(machine)
    assert re.fullmatch(r"/etc/molt/pre-upgrade.d/50 exited with 1: x{300,400}", why), why


FILES = {
    "no program": ("no program\n", 0o755, "exited with 127: cannot execute"),
    "no interpreter": ("#!/no/such\n", 0o755, "is its interpreter there?"),
    "kills itself": ("#!/bin/sh\nkill -KILL $$\n", 0o755, "50 was killed by SIGKILL"),
    "crashes": ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "50 was killed by SIGSEGV"),
}


@pytest.mark.parametrize("how", FILES)
def test_file_that_is_no_good(laid_out, how):
    machine = laid_out
    text, mode, word = FILES[how]
    machine.images["one"].write("/etc/molt/pre-upgrade.d/50", text, mode)
    started(machine)
    assert word in refused(machine)[0]


def test_files_that_are_no_hooks(laid_out):
    """Left out, those that look like one with a warning; the upgrade goes on."""
    machine = laid_out
    one = machine.images["one"]
    for name in (".hidden", "50-old~", "50.dpkg-old", "50.bak"):
        hook(one, "pre-upgrade", name, "exit 1")
    hook(one, "pre-upgrade", "60-data", "exit 1", mode=0o644)
    (one.place("/etc/molt/pre-upgrade.d/70-directory")).mkdir()
    one.place("/etc/molt/pre-upgrade.d/80-dangling").symlink_to("/no/such")
    started(machine)
    told = machine.upgrade("two")[1]
    assert not [e for e in told if e["event"] == "hook"]
    warnings = {e["text"] for e in told if e["event"] == "warning"}
    assert warnings == {f"/etc/molt/pre-upgrade.d/{what}" for what in (
        "60-data is left out: it is not executable (chmod +x)", "70-directory is left out: it is no file",
        "80-dangling is left out: No such file or directory")}


def test_one_that_is_deleted_meanwhile(tmp_path):
    """Between the list and its turn: whoever removed it does not want it any more."""
    with Machine(tmp_path, writable=("one",)) as machine:
        one = machine.images["one"]
        one.conf(services=["a.service"])
        machine.images["two"].conf(services=["a.service"])
        for image in machine.images.values():
            image.service("a", SLEEPER)
        hook(one, "pre-upgrade", "10", "rm /etc/molt/pre-upgrade.d/20")
        hook(one, "pre-upgrade", "20", "exit 1")
        hook(one, "pre-upgrade", "30", note(""))
        started(machine).upgrade("two")
        assert len(trace(machine)) == 1
        assert "/etc/molt/pre-upgrade.d/20: it is gone meanwhile" in machine.log()


class Waiting:
    """A hook that waits for the test: it writes its pid, and goes on when it may."""

    TEXT = "echo $$ > /run/share/hook.new; mv /run/share/hook.new /run/share/hook; read x < /run/share/go"

    def __init__(self, machine, image, phase, then="", verb=("upgrade", "/run/images/two")):
        self.machine, self.verb = machine, verb
        os.mkfifo(machine.share / "go")
        hook(machine.images[image], phase, "50-waits", f"{self.TEXT}; {then}")
        self.client = None

    def begin(self, *options):
        # A shutdown answers the client and ends it: with SIGTERM ignored it is heard, whichever comes first.
        self.client = self.machine.popen("/bin/sh", "-c", 'trap "" TERM; exec "$@"', "sh", "/usr/bin/initctl",
                                         self.verb[0], *options, *self.verb[1:], cgroup="client")
        return self.pid()

    def pid(self):
        pid = int(wait_file(self.machine.share / "hook"))
        (self.machine.share / "hook").unlink()
        return outside(self.machine, pid)

    def go(self):
        (self.machine.share / "go").write_text("\n")

    def end(self, timeout=20):
        output, _ = self.client.communicate(timeout=timeout)
        return self.client.returncode, output


@pytest.mark.parametrize("phase, code", [("pre-upgrade", 3), ("post-pivot", 4), ("commit", 4)])
def test_one_that_is_killed(laid_out, phase, code):
    machine = laid_out
    waiting = Waiting(machine, "one" if phase == "pre-upgrade" else "two", phase)
    started(machine)
    os.kill(waiting.begin(), signal.SIGKILL)
    result, output = waiting.end()
    assert (result, "50-waits was killed by SIGKILL" in output) == (code, True), output
    assert machine.image() == "one"


def test_who_runs_them_is_killed(laid_out):
    """The process between PID 1 and the hook: nothing is known of the hook then, so it counts as failed."""
    machine = laid_out
    waiting = Waiting(machine, "one", "pre-upgrade")
    started(machine)
    pid = waiting.begin()
    parent = int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("PPid:")).split()[1])
    os.kill(parent, signal.SIGKILL)
    result, output = waiting.end()
    assert result == 3 and "ended before they had, in the middle of /etc/molt/pre-upgrade.d/50-waits" in output
    hooks_are_gone(machine)


@pytest.mark.parametrize("phase", PHASES)
def test_busy_in_every_phase(laid_out, phase):
    machine = laid_out
    waiting = Waiting(machine, "one" if phase == "pre-upgrade" else "two", phase)
    started(machine)
    waiting.begin()
    assert machine.json("status")["system"]["state"] == "upgrading"
    for verb in (["upgrade", "/run/images/two"], ["commit"], ["release"], ["plan", "/run/images/two"], ["reexec"]):
        result = machine.initctl(*verb, check=False)
        assert result.returncode == 5 and "busy" in result.stdout, (verb, result.stdout)
    waiting.go()
    result, output = waiting.end()
    assert result == 0 and output.splitlines()[-1] == "committed", output


@pytest.mark.parametrize("phase, code, word", [
    ("pre-upgrade", 3, "refused: asked for by `initctl rollback`"),
    ("post-pivot", 4, "rolled back: asked for by `initctl rollback`"),
    ("commit", 0, "committed")])
def test_rollback_from_another_terminal(laid_out, phase, code, word):
    """Both are told. Only the boot default is not stopped half-way."""
    machine = laid_out
    waiting = Waiting(machine, "one" if phase == "pre-upgrade" else "two", phase)
    started(machine)
    waiting.begin()
    result = machine.initctl("rollback", check=False, timeout=20)
    if phase == "commit":
        assert result.returncode == 5 and "the commit hooks run" in result.stdout
        waiting.go()
    else:
        assert (result.returncode, result.stdout.splitlines()[-1]) == (code, word), result.stdout
    done, output = waiting.end()
    assert (done, output.splitlines()[-1]) == (code, word), output
    assert machine.image() == ("two" if phase == "commit" else "one")
    hooks_are_gone(machine)


@pytest.mark.parametrize("phase", PHASES)
def test_shutdown_in_the_middle(laid_out, phase):
    """Before the boot default is touched it ends the upgrade; after, it waits until that is done."""
    machine = laid_out
    waiting = Waiting(machine, "one" if phase == "pre-upgrade" else "two", phase)
    started(machine)
    waiting.begin()
    if phase == "commit":
        result = machine.initctl("poweroff", check=False)
        assert result.returncode == 5 and "busy" in result.stdout
        waiting.go()
        assert waiting.end()[0] == 0
    down(machine)
    if phase != "commit":
        code, output = waiting.end()
        assert code == (3 if phase == "pre-upgrade" else 1) and "the system is going down" in output, output
    assert machine.process.wait(30) == 128 + signal.SIGINT


def test_client_that_goes_away(laid_out):
    """Ctrl-C ends initctl, and nothing else."""
    machine = laid_out
    waiting = Waiting(machine, "two", "post-pivot")
    started(machine)
    waiting.begin()
    client = next(pid for pid in machine.pids() if open(f"/proc/{pid}/comm").read() == "initctl\n")
    os.kill(client, signal.SIGINT)
    assert waiting.end()[0] == 130
    waiting.go()
    wait_until(lambda: "upgrade: committed" in machine.log(), what="the commit")
    assert machine.image() == "two"


@pytest.mark.parametrize("phase", ["post-pivot", "commit"])
def test_pid_1_begins_anew_in_the_middle(laid_out, phase):
    """It crashes while a hook runs: the next life kills that one and runs the hooks again."""
    machine = laid_out
    waiting = Waiting(machine, "two", phase, then=note(""))
    started(machine)
    first = waiting.begin()
    os.kill(machine.pid, signal.SIGSEGV)
    second = waiting.pid()
    assert first != second
    wait_until(lambda: not os.path.exists(f"/proc/{first}"), what="the end of the one before")
    waiting.go()
    wait_until(lambda: "upgrade: committed" in machine.log(), what="the commit")
    assert len(trace(machine)) == 1 and machine.image() == "two"
    assert machine.json("status")["system"]["state"] == "running"


def test_pid_1_begins_anew_before_the_swap(laid_out):
    """Nothing was touched, so that is a refusal; and the hook does not run on."""
    machine = laid_out
    waiting = Waiting(machine, "one", "pre-upgrade", then=note(""))
    started(machine)
    waiting.begin()
    before = Snapshot(machine)
    os.kill(machine.pid, signal.SIGSEGV)
    code, output = waiting.end()
    assert code == 3 and output.splitlines()[-1] == "refused: PID 1 crashed, and everything is as it was before", output
    after = Snapshot(machine)
    assert (after.mounts, after.services, after.generation) == (before.mounts, before.services, before.generation)
    hooks_are_gone(machine)
    assert trace(machine) == []
