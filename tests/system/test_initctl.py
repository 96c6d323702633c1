# SPDX-License-Identifier: MIT
"""initctl against a PID 1 of our own making: what it asks, what it prints, how it exits.

The fake speaks conf/protocol.h on a SEQPACKET socket at $MOLT_CONTROL. Nothing here sleeps: a test
waits for a byte, a request or an exit, each with a deadline.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import unicodedata

import pytest

INITCTL = os.path.abspath(os.path.join(os.environ.get("MOLT_BUILD", "build"), "initctl"))
COMPLETION = os.path.join(os.path.dirname(__file__), "../../conf/completion/initctl")
DEADLINE = 20

# A title, a colour, an 8-bit CSI, a CSI in UTF-8, a mark that turns the line round, a carriage return.
HOSTILE = b"\x1b]0;pwned\x07\x1b[31m\x9b2J\xc2\x9b1m\xe2\x80\xae\r\x08evil\\x\"quoted\"\x7f\t"


# ---- records -------------------------------------------------------------------------------------


def as_bytes(text):
    return text if isinstance(text, bytes) else str(text).encode()


def escape(text):
    out = bytearray()
    for byte in as_bytes(text):
        if byte == 0x0A:
            out += b"\\n"
        elif byte == 0x0D:
            out += b"\\r"
        elif byte == 0x5C:
            out += b"\\\\"
        elif byte < 0x20 or byte == 0x7F:
            out += b"\\x%02x" % byte
        else:
            out.append(byte)
    return bytes(out)


def record(kind, id="", *pairs, **fields):
    """One packet. A list as value is a repeated field; `pairs` are for what is no keyword."""
    lines = [b"@" + as_bytes(kind) + b" " + escape(id)]
    for key, value in [*pairs, *fields.items()]:
        for one in value if isinstance(value, list) else [value]:
            lines.append(as_bytes(key) + b"=" + escape(one))
    return b"\n".join(lines) + b"\n\n"


def result(id="ok", text=""):
    return record("result", id, text=text)


def unescape(text):
    return re.sub(
        rb"\\(n|r|\\|x[0-9a-f]{2})",
        lambda m: {b"n": b"\n", b"r": b"\r", b"\\": b"\\"}.get(m[1]) or bytes([int(m[1][1:], 16)]),
        text,
    ).decode(errors="surrogateescape")


def parse_request(packet):
    head, *lines = packet.split(b"\n")
    kind, _, verb = head.partition(b" ")
    assert kind == b"@request"
    assert lines[-2:] == [b"", b""]
    fields = {}
    for line in lines[:-2]:
        key, _, value = line.partition(b"=")
        fields[key.decode()] = unescape(value)
    return verb.decode(), fields


# ---- the fake PID 1 ------------------------------------------------------------------------------


class FakeInit:
    """Answers each request with the next answer of `answers`, the last one for ever.

    An answer is a list of packets, or a function that gets the connection and the request.
    """

    def __init__(self, path):
        self.path = str(path)
        self.requests = []
        self.answers = [[result()]]
        self.failure = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(DEADLINE)
                try:
                    self.serve_one(connection)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # initctl went away, which some tests are about
                except Exception as e:  # told by the fixture, in the thread of the test
                    self.failure = e

    def serve_one(self, connection):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if getattr(answer, "before_request", False):
            answer(connection, None)
            return
        packet = connection.recv(65536)
        if not packet:
            return  # it left without a request
        request = parse_request(packet)
        self.requests.append(request)
        if callable(answer):
            answer(connection, request)
            return
        for packet in answer:
            connection.send(packet)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "the fake PID 1 still serves"
        if self.failure:
            raise self.failure


@pytest.fixture
def init(tmp_path):
    fake = FakeInit(tmp_path / "control")
    yield fake
    fake.close()


def environment(init_path, **more):
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm", "MOLT_CONTROL": init_path}
    # The sanitizers' options, where the binary is built with them.
    env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def run(init, *arguments, env=None, **options):
    """Runs initctl to its end, with stdout and stderr as pipes; text is bytes."""
    path = init if isinstance(init, str) else init.path
    return subprocess.run(
        [INITCTL, *arguments],
        env=environment(path, **(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        timeout=DEADLINE,
        **options,
    )


def document(done):
    assert done.stdout.count(b"\n") == 1 and done.stdout.endswith(b"\n")
    return json.loads(done.stdout)


# ---- a running initctl ---------------------------------------------------------------------------


class Running:
    """initctl that runs while the test looks: its output comes in as it is written."""

    def __init__(self, init, *arguments, env=None, **options):
        self.output = b""
        self.process = subprocess.Popen(
            [INITCTL, *arguments],
            env=environment(init.path, **(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def read_until(self, text):
        deadline = time.monotonic() + DEADLINE
        while text not in self.output:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, left))
            assert ready, f"waited for {text!r}, have {self.output!r}"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            assert chunk, f"output ended before {text!r}: {self.output!r}"
            self.output += chunk

    def end(self):
        out, err = self.process.communicate(timeout=DEADLINE)
        self.output += out
        return self.process.returncode, err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(DEADLINE)
        self.process.stdout.close()
        self.process.stderr.close()


def run_on_terminal(init, *arguments, columns=80, env=None):
    """Runs initctl on a terminal of that width; returns (exit code, all it wrote)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST  # no \r of the terminal's own
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        [INITCTL, *arguments],
        env=environment(init.path, **(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    output = b""
    deadline = time.monotonic() + DEADLINE
    try:
        while True:
            ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no end of the output: {output!r}"
            try:
                chunk = os.read(master, 65536)
            except OSError:  # EIO: the last writer closed it
                break
            if not chunk:
                break
            output += chunk
        return process.wait(DEADLINE), output
    finally:
        process.kill()
        process.wait()
        os.close(master)


COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def columns_of(line):
    width = 0
    for character in COLOUR.sub(b"", line).decode():
        if unicodedata.combining(character):
            continue
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return width


def widest(output):
    return max(columns_of(line) for line in output.split(b"\n"))


# ---- what PID 1 has to say -----------------------------------------------------------------------


SYSTEM = record(
    "system",
    "0.1.0",
    generation=3,
    state="running",
    image="Debian GNU/Linux 12 (bookworm)",
    up_usec=3 * 86400 * 10**6 + 4 * 3600 * 10**6,
    rss_bytes=1258291,
    kernel="6.1.0-18-amd64",
    init_pid=1,
)

NGINX = record(
    "unit",
    "nginx.service",
    description="A high performance web server",
    state="running",
    type="forking",
    policy="reexec",
    main_pid=412,
    state_usec=11520 * 10**6,
    restarts=0,
    status="",
    result="",
    source="/usr/lib/molt/system/nginx.service",
    log="/var/log/molt/nginx.log",
    memory_bytes=12582912,
    tasks=3,
    exe_generation=3,
    listen=["0.0.0.0:80", "[::]:443"],
)

POSTGRES = record(
    "unit",
    "postgres.service",
    description="PostgreSQL database server",
    state="running",
    type="notify",
    policy="keep",
    main_pid=512,
    state_usec=272800 * 10**6,
    restarts=2,
    status="ready to accept connections; 17 clients",
    memory_bytes=412582912,
    exe_generation=1,
)

BACKUP = record(
    "unit",
    "backup.service",
    description="Nightly backup",
    state="failed",
    type="oneshot",
    policy="restart",
    state_usec=45 * 10**6,
    restarts=5,
    result="exit-code 1",
)

SPOOLER = record("unit", "spooler.service", description="Print spooler", state="inactive", policy="keep")

HOLDERS = [
    record("holder", 512, comm="postgres", unit="postgres.service", generation=1, what="exe",
           path="/usr/lib/postgresql/15/bin/postgres", action="stays",
           advice="restart it when its clients can bear it"),
    record("holder", 512, comm="postgres", unit="postgres.service", generation=1, what="map",
           path="/usr/lib/x86_64-linux-gnu/libc.so.6", action="stays"),
    record("holder", 512, comm="postgres", unit="postgres.service", generation=1, what="map",
           path="/usr/lib/x86_64-linux-gnu/libssl.so.3", action="stays"),
    record("holder", 777, comm="rsyslogd", unit="syslog.service", generation=2, what="file", fd=7,
           mode="rw", path="/var/lib/rsyslog/state", action="blocks",
           advice="restart it, or put /var/lib on a mount of its own"),
    record("holder", 901, comm="bash", unit="", generation=2, what="cwd", path="/usr/src",
           action="stays"),
]

PLAN = [
    record("plan", "/new", generation=4, **{"from": "Debian 12.4"}, to="Debian 12.5"),
    *[record("mount", p, action="move", fstype=t) for p, t in
      [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "devtmpfs"), ("/run", "tmpfs"), ("/var", "ext4")]],
    record("mount", "/mnt/cdrom", action="leave", fstype="iso9660"),
    record("service", "nginx.service", policy="reexec", action="signal USR2, then QUIT to the old master"),
    record("service", "postgres.service", policy="keep", action="stays on the old image"),
    *HOLDERS,
]

BLOCKER = record("blocker", text="rsyslogd (777) writes /var/lib/rsyslog/state on the old image")
WARNING = record("warning", text="the C library changes: what stays runs old code with new modules")

PHASES = [("plan", 12345, 0), ("prepare", 1100, 0), ("freeze", 900, 1), ("verify", 350, 1),
          ("move", 210, 1), ("pivot", 90, 1), ("migrate", 3050, 1), ("thaw", 700, 1),
          ("exec", 20100, 0), ("services", 1234567, 0)]


def phase(name, usec, blackout):
    return record("phase", name, usec=usec, **({"blackout": "yes"} if blackout else {}))


UPGRADE = [
    PLAN[0],
    WARNING,
    *[phase(*p) for p in PHASES[:8]],
    record("blackout", usec=5300, processes=212, migrated=3, left=9, tries=1),
    phase(*PHASES[8]),
    record("progress", text="nginx is on the new image"),
    phase(*PHASES[9]),
    HOLDERS[0],
]


# ---- what it asks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, verb, fields",
    [
        ([], "status", {}),
        (["--json"], "status", {}),
        (["status"], "status", {}),
        (["status", "nginx"], "status", {"unit": "nginx.service"}),
        (["status", "nginx.service"], "status", {"unit": "nginx.service"}),
        (["status", ".service"], None, None),
        (["status", "foo.bar"], "status", {"unit": "foo.bar.service"}),
        (["status", "odd\n\\name\x1b"], "status", {"unit": "odd\n\\name\x1b.service"}),
        (["start", "nginx"], "start", {"unit": "nginx.service"}),
        (["stop", "nginx"], "stop", {"unit": "nginx.service"}),
        (["restart", "nginx"], "restart", {"unit": "nginx.service"}),
        (["reload", "nginx"], "reload", {"unit": "nginx.service"}),
        (["plan", "/new"], "plan", {"path": "/new"}),
        (["upgrade", "/new"], "upgrade", {"path": "/new"}),
        (["upgrade", "--force", "/new"], "upgrade", {"path": "/new", "force": "yes"}),
        (["upgrade", "/new", "--dry-run"], "upgrade", {"path": "/new", "dry_run": "yes"}),
        (["--force", "upgrade", "/new", "--dry-run"], "upgrade",
         {"path": "/new", "force": "yes", "dry_run": "yes"}),
        (["upgrade", "--", "/new"], "upgrade", {"path": "/new"}),
        (["rollback"], "rollback", {}),
        (["commit"], "commit", {}),
        (["holders"], "holders", {}),
        (["reexec"], "reexec", {}),
        (["version"], "version", {}),
        (["log", "nginx"], "log", {"unit": "nginx.service"}),
        (["log", "init"], "log", {"unit": "init"}),
        (["status", "init"], "status", {"unit": "init.service"}),
        (["poweroff"], "poweroff", {}),
        (["reboot"], "reboot", {}),
        (["halt"], "halt", {}),
    ],
)
def test_request(init, arguments, verb, fields):
    run(init, *arguments)
    assert init.requests == ([] if verb is None else [(verb, fields)])


def test_relative_path_is_made_absolute(init, tmp_path):
    """PID 1 stands in another directory than the person."""
    run(init, "upgrade", "images/new", cwd=tmp_path)
    run(init, "plan", ".", cwd=tmp_path)
    assert [f["path"] for _, f in init.requests] == [f"{tmp_path}/images/new", f"{tmp_path}/."]


def test_relative_path_in_a_directory_that_is_gone(init, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$1"; exec "$2" upgrade new', "sh", gone, INITCTL],
        cwd=gone, env=environment(init.path), capture_output=True, timeout=DEADLINE,
    )
    assert done.returncode == 1 and b"absolute" in done.stderr
    assert init.requests == []


def test_several_services_are_asked_for_in_turn(init):
    init.answers = [[result()], [result("failed", "b would not")], [result("busy", "no")], [result()]]
    done = run(init, "restart", "a", "b", "c", "d")
    assert [f["unit"] for _, f in init.requests] == [f"{n}.service" for n in "abcd"]
    assert done.returncode == 1  # of the first that failed
    assert done.stderr == b"initctl: b would not\ninitctl: no\n"


# ---- exit codes ----------------------------------------------------------------------------------

RESULTS = {
    "ok": 0, "failed": 1, "usage": 2, "refused": 3, "rolled-back": 4, "busy": 5, "denied": 6,
    "not-found": 7, "invented-later": 1,
}
VERBS = {
    "status": ["status"], "start": ["start", "a"], "stop": ["stop", "a"], "restart": ["restart", "a"],
    "reload": ["reload", "a"], "plan": ["plan", "/new"], "upgrade": ["upgrade", "/new"],
    "dry-run": ["upgrade", "--dry-run", "/new"], "rollback": ["rollback"], "commit": ["commit"],
    "holders": ["holders"], "reexec": ["reexec"], "version": ["version"], "poweroff": ["poweroff"],
    "reboot": ["reboot"], "halt": ["halt"],
}


@pytest.mark.parametrize("id", RESULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_exit_code(init, verb, id):
    init.answers = [[result(id, "so it is said")]]
    done = run(init, *VERBS[verb])
    assert done.returncode == RESULTS[id]
    if id != "ok":
        assert b"so it is said\n" in done.stdout + done.stderr
    as_json = run(init, "--json", *VERBS[verb])
    assert as_json.returncode == RESULTS[id]
    json.loads(as_json.stdout)


@pytest.mark.parametrize("id", [id for id in RESULTS if id != "ok"])
def test_exit_code_of_log(init, id):
    init.answers = [[result(id, "so it is said")]]
    done = run(init, "log", "a")
    assert (done.returncode, done.stdout) == (RESULTS[id], b"")
    assert done.stderr == b"initctl: so it is said\n"


@pytest.mark.parametrize(
    "state, code",
    [("running", 0), ("reloading", 0), ("exited", 0), ("inactive", 9), ("failed", 9), ("waiting", 9),
     ("starting", 9), ("backoff", 9), ("stopping", 9), ("invented-later", 9)],
)
def test_status_tells_by_its_exit_code_whether_a_service_is_up(init, state, code):
    init.answers = [[SYSTEM, record("unit", "a.service", state=state), result()]]
    assert run(init, "status", "a").returncode == code
    assert run(init, "status").returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_unreachable(tmp_path, verb):
    path = str(tmp_path / "nothing")
    done = run(path, *VERBS[verb])
    assert done.returncode == 8
    assert done.stderr.decode() == (
        f"initctl: cannot reach PID 1 at {path}: No such file or directory (is molt running as init?)\n"
    )
    done = run(path, "--json", *VERBS[verb])
    assert done.returncode == 8
    last = json.loads(done.stdout)
    assert (last["services"][0] if verb in ("start", "stop", "restart", "reload") else last)[
        "result"
    ] == "unreachable"


def test_nobody_listens(tmp_path):
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    done = run(str(tmp_path / "dead"), "status")
    assert done.returncode == 8 and b"Connection refused" in done.stderr


def test_socket_path_too_long(tmp_path):
    done = run(str(tmp_path / ("x" * 120)), "status")
    assert done.returncode == 8 and b"too long" in done.stderr


def test_default_socket_path(tmp_path):
    """Without MOLT_CONTROL it is the socket of conf/protocol.h; there is none on a test machine."""
    if os.path.exists("/run/molt/control"):
        pytest.skip("this system runs molt")
    done = run("x", "status", env={"MOLT_CONTROL": None})
    assert done.returncode == 8 and b"at /run/molt/control: " in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_only_root_may(init, tmp_path):
    for directory in [tmp_path, *tmp_path.parents][:-2]:
        os.chmod(directory, 0o755)
    os.chmod(init.path, 0o600)
    # initctl itself may lie where nobody else gets at it: run it from an open descriptor.
    binary = os.open(INITCTL, os.O_RDONLY)
    done = subprocess.run(
        [f"/proc/self/fd/{binary}", "status"], env=environment(init.path), capture_output=True,
        timeout=DEADLINE, pass_fds=[binary], user=65534, group=65534, extra_groups=[],
    )
    os.close(binary)
    assert done.returncode == 6, done
    assert b"Permission denied (only root may)" in done.stderr


# ---- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["stauts"], b"no such verb: stauts (did you mean status?)"),
        (["ugrade", "/new"], b"did you mean upgrade?"),
        (["re-exec"], b"did you mean reexec?"),
        (["pwoeroff"], b"did you mean poweroff?"),
        (["power"], b"did you mean poweroff?"),
        (["rebuild"], b"no such verb: rebuild (`initctl help` lists them)"),
        (["bananas"], b"no such verb: bananas (`initctl help` lists them)"),
        (["x" * 1000], b"lists them"),
        ([""], b"lists them"),
        (["\x1b[31m"], b"no such verb: \\x1b[31m"),
        (["start"], b"usage: initctl start [--json] NAME..."),
        (["upgrade"], b"usage: initctl upgrade [--dry-run] [--force] [--no-auto-commit]"),
        (["plan"], b"plan: which image?"),
        (["log"], b"usage: initctl log [-f] [-n LINES] [--json] NAME"),
        (["plan", "/a", "/b"], b"too many arguments"),
        (["status", "a", "b"], b"too many arguments"),
        (["commit", "now"], b"too many arguments"),
        (["status", "--force"], b"takes no such option"),
        (["plan", "--dry-run", "/new"], b"takes no such option"),
        (["upgrade", "-f", "/new"], b"takes no such option"),
        (["help", "--json"], b"takes no such option"),
        (["help", "stauts"], b"did you mean status?"),
        (["--frobnicate"], b"no such option: --frobnicate"),
        (["--json=yes"], b"--json=yes"),
        (["log", "-x", "a"], b"no such option: -x"),
        (["log", "a", "-n"], b"wants an argument: -n"),
        (["log", "a", "--lines"], b"wants an argument: --lines"),
        (["log", "a", "-n", "many"], b"not a number of lines: many"),
        (["log", "a", "-n", "-5"], b"not a number of lines: -5"),
        (["log", "a", "-n", "9" * 30], b"not a number of lines"),
        (["start", "a/b"], b'not the name of a service: "a/b"'),
        (["start", "a", ""], b"not the name of a service"),
        (["upgrade", "--auto-commit", "--no-auto-commit", "/new"], b"committed by itself, or not? One of both"),
        (["upgrade", "--auto-commit", "--commit-within=5", "/new"], b"committed by itself, or not? One of both"),
        (["upgrade", "/new", "--commit-within"], b"wants an argument: --commit-within"),
        (["plan", "--commit-within=5", "/new"], b"takes no such option"),
        (["upgrade", ""], b"path of the image is empty"),
    ],
)
def test_wrong_use(init, arguments, says):
    done = run(init, *arguments)
    assert done.returncode == 2
    assert says in done.stderr and done.stdout == b""
    assert init.requests == []


def test_help_names_every_verb_and_exit_code(init):
    for arguments in (["help"], ["--help"], ["-h"]):
        done = run(init, *arguments)
        assert (done.returncode, done.stderr, init.requests) == (0, b"", [])
        for verb in ["status", "start", "stop", "restart", "reload", "plan", "upgrade", "rollback",
                     "commit", "holders", "log", "reexec", "poweroff", "reboot", "halt", "version"]:
            assert f"\n  {verb} ".encode() in done.stdout
        for code in range(10):
            assert f"\n  {code}  ".encode() in done.stdout
        assert widest(done.stdout) <= 90


def test_help_of_one_verb(init):
    for arguments in (["help", "log"], ["log", "--help"], ["--help", "log"]):
        done = run(init, *arguments)
        assert done.returncode == 0 and init.requests == []
        assert done.stdout.startswith(b"usage: initctl log [-f] [-n LINES] [--json] NAME\n")
        assert b"--follow" in done.stdout and b"--force" not in done.stdout


def test_own_version_needs_no_pid_1(tmp_path):
    done = run(str(tmp_path / "nothing"), "--version")
    assert done.returncode == 0 and re.fullmatch(rb"initctl \d+\.\d+\.\d+\n", done.stdout)
    done = run(str(tmp_path / "nothing"), "version")
    assert done.returncode == 8 and done.stdout.startswith(b"initctl ")


# ---- the connection ------------------------------------------------------------------------------

LOST = b"initctl: lost the connection to PID 1 before it said how this ended"


@pytest.mark.parametrize("verb", VERBS)
def test_connection_lost(init, verb):
    init.answers = [[]]
    done = run(init, *VERBS[verb])
    assert done.returncode == 8 and done.stderr.startswith(LOST)


def test_connection_lost_in_the_middle_of_an_upgrade(init):
    init.answers = [UPGRADE[:5]]
    done = run(init, "--json", "upgrade", "/new")
    assert done.returncode == 8 and done.stderr.startswith(LOST)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events] == ["plan", "warning", "phase", "phase", "phase", "result"]
    assert events[-1]["result"] == "lost"


def test_connection_carried_across_an_exec_of_pid_1(init):
    """PID 1 execs itself during an upgrade: another process then holds the other end."""

    def carry(connection, _):
        connection.send(phase("thaw", 700, 1))
        carried = socket.socket(fileno=os.dup(connection.fileno()))
        connection.close()
        with carried:
            carried.send(phase("exec", 20100, 0))
            carried.send(result("ok", "committed"))

    init.answers = [carry]
    done = run(init, "upgrade", "/new")
    assert done.returncode == 0 and done.stdout.endswith(b"\ncommitted\n")


def test_turned_away_before_the_request_is_read(init):
    """Who may not ask is told so and hung up on: the reset must not hide the reason."""

    def turn_away(connection, _):
        connection.send(result("denied", "only root may ask that"))
        # Wait for the request and leave it unread: closing then resets the connection.
        ready, _, _ = select.select([connection], [], [], DEADLINE)
        assert ready

    turn_away.before_request = True
    init.answers = [turn_away]
    done = run(init, "reboot")
    assert (done.returncode, done.stderr) == (6, b"initctl: only root may ask that\n")


@pytest.mark.parametrize(
    "packet",
    [b"garbage", b"@unit a\nstate=running\n", b"\n", b"@unit\n\n\n\n", b"@Unit a\n\n", b"@unit a\nb\n\n",
     b"@unit a\nx=\x1b\n\n", b"\0\0\0", record("unit", "a")[:-1]],
)
def test_what_is_no_record(init, packet):
    init.answers = [[packet, result()]]
    done = run(init, "status")
    assert done.returncode == 1
    assert b"cannot understand the answer of PID 1" in done.stderr


def test_packet_too_long(init):
    init.answers = [[record("unit", "a", status="x" * 70000), result()]]
    done = run(init, "status")
    assert done.returncode == 8 and b"Message too long" in done.stderr


def test_longest_packet(init):
    empty = len(record("unit", "a.service", status=""))
    init.answers = [[record("unit", "a.service", status="x" * (65536 - empty)), result()]]
    done = run(init, "--json", "status")
    assert done.returncode == 0
    assert len(document(done)["services"][0]["status"]) == 65536 - empty


def test_request_too_long(init):
    done = run(init, "plan", "/" + "x" * 70000)
    assert done.returncode == 2 and b"a path of 70001 bytes leads nowhere" in done.stderr
    done = run(init, "start", "x" * 100000 + ".service")
    assert done.returncode == 2 and b"cannot send the request: Message too long" in done.stderr


def test_unknown_kinds_and_fields_are_skipped(init):
    new = record("omen", "raven", colour="black")
    init.answers = [[new, record("unit", "a.service", state="running", moon="full"), new, result()]]
    assert b"raven" not in run(init, "status").stdout
    (service,) = document(run(init, "--json", "status"))["services"]
    assert "moon" not in service and service["name"] == "a.service"
    init.answers = [[new, phase("freeze", 1, 1), result("ok", "committed")]]
    assert b"raven" not in run(init, "upgrade", "/new").stdout
    lines = run(init, "upgrade", "--json", "/new").stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["phase", "result"]


def test_records_of_one_packet_and_what_comes_after_the_result(init):
    init.answers = [[SYSTEM + NGINX + result() + b"never looked at"]]
    done = run(init, "--json", "status")
    assert done.returncode == 0 and document(done)["services"][0]["name"] == "nginx.service"


# ---- status --------------------------------------------------------------------------------------


def test_status_for_people(init):
    init.answers = [[SYSTEM, POSTGRES, NGINX, BACKUP, SPOOLER, result()]]
    done = run(init)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "molt 0.1.0, generation 3, running"
    assert "Debian GNU/Linux 12 (bookworm)" in lines[1] and "up 3d 4h" in lines[1]
    assert lines[3].split() == ["SERVICE", "STATE", "FOR", "PID", "MEMORY", "RESTARTS", "UPGRADE",
                                "GEN", "STATUS"]
    assert [line.split()[0] for line in lines[4:8]] == ["backup", "nginx", "postgres", "spooler"]
    assert re.fullmatch(r"backup +failed +45s +5 +restart +exit-code 1", lines[4])
    assert re.fullmatch(r"nginx +running +3h 12min +412 +12M +reexec +3 +A high performance web server",
                        lines[5])
    assert lines[6].endswith("ready to accept connections; 17 clients")
    assert lines[9:] == [
        "4 services: 2 active, 1 failed, 1 inactive.",
        "backup failed: `initctl log backup` may say why.",
        "1 of them runs code of an older generation: `initctl holders`.",
    ]


def test_status_without_services(init):
    init.answers = [[SYSTEM, result()]]
    assert run(init).stdout.endswith(b"\nNo services.\n")


def test_status_says_what_an_uncommitted_upgrade_waits_for(init):
    waiting = record("system", "0.1.0", generation=4, state="uncommitted")
    init.answers = [[waiting, result()]]
    out = run(init).stdout
    assert b"`initctl commit` keeps it, `initctl rollback` undoes it" in out


@pytest.mark.parametrize("verb", ["status", "holders"])
@pytest.mark.parametrize(
    "fields, says",
    [
        ({"committed": "yes", "left_usec": 599000000},
         "Generation 2 is attached for 9min yet: `initctl rollback` goes back to it, "
         "`initctl release` lets it go."),
        ({"committed": "yes"},
         "Generation 2 is attached until the next upgrade: `initctl rollback` goes back to it, "
         "`initctl release` lets it go."),
        ({"committed": "no", "left_usec": 90000000},
         "The upgrade to this generation is not committed: `initctl commit` keeps it, `initctl rollback` undoes it; "
         "in 1min it is rolled back by itself."),
        ({"committed": "no"},
         "The upgrade to this generation is not committed: `initctl commit` keeps it, `initctl rollback` undoes it."),
    ],
)
def test_generation_to_go_back_to(init, verb, fields, says):
    init.answers = [[SYSTEM] * (verb == "status") + [record("attached", "2", **fields), result()]] * 2
    assert says in " ".join(run(init, verb).stdout.decode().split())
    assert document(run(init, verb, "--json"))["attached"] == {
        "generation": 2, "committed": fields["committed"] == "yes", "left_usec": fields.get("left_usec")}


HOOKS = [record("hook", "/etc/molt/pre-upgrade.d/50-backup", phase="pre-upgrade"),
         record("hook", "/usr/lib/molt/commit.d/10-loader", phase="commit")]


def test_plan_lists_the_hooks(init):
    init.answers = [[*PLAN, *HOOKS, result()]] * 2
    out = run(init, "plan", "/new").stdout.decode()
    assert "\nWhich hooks run\n" in out
    assert [line.split() for line in out.splitlines() if ".d/" in line] == [
        ["pre-upgrade", "/etc/molt/pre-upgrade.d/50-backup"], ["commit", "/usr/lib/molt/commit.d/10-loader"]]
    hooks = document(run(init, "plan", "--json", "/new"))["hooks"]
    assert [(h["path"], h["phase"], h["usec"]) for h in hooks] == [
        ("/etc/molt/pre-upgrade.d/50-backup", "pre-upgrade", None), ("/usr/lib/molt/commit.d/10-loader", "commit", None)]


def test_hooks_as_they_run(init):
    ran = [record("hook", "/etc/molt/pre-upgrade.d/50-backup", phase="pre-upgrade", usec=12345, failed="no",
                  text="3 files saved"),
           record("hook", "/etc/molt/pre-upgrade.d/60-quiet", phase="pre-upgrade", usec=1000, failed="no"),
           record("hook", "/etc/molt/pre-upgrade.d/70-no", phase="pre-upgrade", usec=1000, failed="yes",
                  text="/etc/molt/pre-upgrade.d/70-no exited with 3: not now")]
    init.answers = [[*HOOKS, *ran, result("refused", "refused: no")]]
    out = run(init, "upgrade", "/new").stdout.decode()
    assert out == ("    /etc/molt/pre-upgrade.d/50-backup: 3 files saved (12.3 ms)\n"
                   "    /etc/molt/pre-upgrade.d/60-quiet: done (1.0 ms)\n"
                   "    /etc/molt/pre-upgrade.d/70-no exited with 3: not now\n"
                   "refused: no\n")


def test_already_there(init):
    init.answers = [[result("ok", "already there: /new is the image that is running")]] * 3
    for arguments in (["plan", "/new"], ["upgrade", "/new"], ["upgrade", "--dry-run", "/new"]):
        done = run(init, *arguments)
        assert (done.returncode, done.stdout) == (0, b"already there: /new is the image that is running\n")


@pytest.mark.parametrize(
    "options, fields",
    [
        ([], {}),
        (["--no-auto-commit"], {"commit": "hand"}),
        (["--auto-commit"], {"commit": "auto"}),
        (["--commit-within", "5min"], {"commit_within": "5min"}),
        (["--no-auto-commit", "--commit-within=90"], {"commit": "hand", "commit_within": "90"}),
    ],
)
def test_commit_options_are_passed_on(init, options, fields):
    init.answers = [[result()]]
    run(init, "upgrade", *options, "/new")
    assert init.requests == [("upgrade", {"path": "/new"} | fields)]


def test_status_of_one_service(init):
    init.answers = [[SYSTEM, POSTGRES, result()]]
    out = run(init, "status", "postgres").stdout.decode()
    assert out.startswith("postgres.service\n")
    assert "  status       ready to accept connections; 17 clients\n" in out
    assert "  main pid     512\n" in out
    assert "keep; runs code of generation 1, the system is at 3\n" in out


@pytest.mark.parametrize(
    "bytes_, shown",
    [(0, "0"), (1023, "1023"), (1024, "1.0K"), (10188, "9.9K"), (10240, "10K"), (1048063, "1023K"),
     (1048575, "1.0M"), (12582912, "12M"), (2**40, "1.0T")],
)
def test_memory_is_readable(init, bytes_, shown):
    init.answers = [[record("unit", "a.service", state="running", memory_bytes=bytes_), result()]]
    assert f"  memory       {shown}\n" in run(init, "status", "a").stdout.decode()


@pytest.mark.parametrize(
    "usec, shown",
    [(59 * 10**6, "59s"), (60 * 10**6, "1min"), (3600 * 10**6, "1h 0min"), (86400 * 10**6, "1d 0h")],
)
def test_times_are_readable(init, usec, shown):
    init.answers = [[record("system", "0.1.0", generation=1, state="running", up_usec=usec), result()]]
    assert f"up {shown};" in run(init).stdout.decode()


# ---- plan, holders -------------------------------------------------------------------------------


def test_plan_for_people(init):
    init.answers = [[*PLAN, WARNING, BLOCKER, result("refused", "refused: a blocker")]]
    done = run(init, "plan", "/new")
    out = done.stdout.decode()
    assert done.returncode == 3 and done.stderr == b""
    assert out.startswith("Upgrade to generation 4: /new\n  from  Debian 12.4\n  to    Debian 12.5\n")
    assert "\n  move  /proc /sys /dev /run /var\n  leave /mnt/cdrom\n" in out
    assert "\n  - rsyslogd (777) writes /var/lib/rsyslog/state on the old image\n" in out
    assert "\nwarning: the C library changes" in out
    assert "after the upgrade `initctl restart postgres` releases it." in out
    assert out.endswith("or `initctl upgrade --force /new` says yes to it.\n")


def test_plan_that_nothing_forbids(init):
    init.answers = [[PLAN[0], result()]]
    done = run(init, "plan", "/new")
    assert done.returncode == 0
    assert done.stdout.endswith(b"\nNothing forbids it: `initctl upgrade /new` carries it out.\n")


def test_plan_that_could_not_be_made(init):
    init.answers = [[result("failed", "cannot open /new: No such file or directory")]]
    done = run(init, "plan", "/new")
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr == b"initctl: cannot open /new: No such file or directory\n"


def test_holders_are_grouped_by_service(init):
    init.answers = [[*reversed(HOLDERS), result()]]
    lines = run(init, "holders").stdout.decode().splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "postgres",
        "syslog",
        "no service (sessions and the like)",
        "2 services hold an older generation: `initctl restart postgres syslog` releases it.",
        "901 (bash) belongs to no service: log out of the session or end it.",
    ]
    assert re.search(r"map x2 +stays +/usr/lib/x86_64-linux-gnu/libc.so.6 and 1 more", "\n".join(lines))
    assert [line for line in lines if "->" in line] == [
        "  -> restart it when its clients can bear it",
        "  -> restart it, or put /var/lib on a mount of its own",
    ]
    # A process is named once, in its first row.
    assert sum("512" in line for line in lines) == 1


def test_holders_outside_of_services(init):
    """Whatever cgroup they are in: what is no service cannot be restarted."""
    init.answers = [[
        record("holder", 7, comm="agetty", unit="", what="cwd", generation=0),
        record("holder", 8, comm="sh", unit="session-1", what="cwd", generation=0), result()]]
    out = run(init, "holders").stdout.decode()
    assert "GENERATION" not in out  # it is not known
    assert "\nsession-1\n" in out and "restart" not in out
    assert out.endswith("\n8 (sh), 7 (agetty) belong to no service: log out of the sessions or end them.\n")


def test_one_holder(init):
    init.answers = [[HOLDERS[0], result()]]
    out = run(init, "holders").stdout
    assert out.endswith(b"\npostgres holds an older generation: `initctl restart postgres` releases it.\n")


def test_no_holders(init):
    done = run(init, "holders")
    assert (done.returncode, done.stdout) == (0, b"No process holds an older generation.\n")


def test_ten_thousand_holders(init):
    # Above what a process can be called (4,194,304 at most): initctl leaves itself out, whatever it is called.
    holders = [
        record("holder", 5000000 + i // 5, comm=f"worker{i % 7}", unit=f"s{i % 50}.service", generation=1,
               what="map", path=f"/usr/lib/lib{i}.so", action="stays", advice=f"restart number {i}")
        for i in range(10000)
    ]
    init.answers = [[*holders, result()]]
    done = run(init, "holders")
    assert done.returncode == 0 and done.stdout.count(b"  -> ") == 10000
    assert b"\n50 services hold" in done.stdout
    parsed = document(run(init, "--json", "holders"))
    assert len(parsed["holders"]) == 10000
    assert parsed["holders"][9999]["path"] == "/usr/lib/lib9999.so"


def test_many_strangers_are_counted(init):
    init.answers = [[*[record("holder", i, comm="sh", what="cwd") for i in range(5000100, 5000150)], result()]]
    out = run(init, "holders").stdout
    assert out.endswith(b"5000107 (sh) and 42 more belong to no service: log out of the sessions or end them.\n")


# ---- upgrade -------------------------------------------------------------------------------------


def test_upgrade_for_people(init):
    init.answers = [[*UPGRADE, result("ok", "committed")]]
    done = run(init, "upgrade", "/new")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[0] == "Upgrade to generation 4: /new (Debian 12.4 -> Debian 12.5)"
    assert lines[1] == "  warning: the C library changes: what stays runs old code with new modules"
    assert [line.split()[:2] for line in lines[2:13]] == [
        ["plan", "12.3"], ["prepare", "1.1"], ["freeze", "0.9"], ["verify", "0.3"], ["move", "0.2"],
        ["pivot", "0.1"], ["migrate", "3.0"], ["thaw", "0.7"], ["blackout", "5.3"], ["exec", "20.1"],
        ["nginx", "is"],
    ]
    assert lines[10].endswith("in all, of 212 processes; 9 references to the old image not moved")
    assert [line.split()[0] for line in lines if line.endswith("frozen")] == [
        "freeze", "verify", "move", "pivot", "migrate", "thaw"]
    assert "`initctl restart postgres` releases it." in lines[-2]
    assert lines[-1] == "committed"


def test_what_is_left_behind_is_told_only_of_an_upgrade_that_was_made(init):
    init.answers = [[*HOLDERS, BLOCKER, result("refused", "refused: a blocker")]]
    out = run(init, "upgrade", "/new").stdout
    assert b"  blocker: rsyslogd (777)" in out and b"initctl restart" not in out
    init.answers = [[*HOLDERS, result("ok", "committed")]]
    out = run(init, "upgrade", "--force", "/new").stdout
    assert b"`initctl restart postgres syslog` releases it." in out
    moved = [record("holder", 5, comm="x", unit="x.service", what="cwd", action=a)
             for a in ("migrate", "replace")]
    init.answers = [[*moved, result("ok", "committed")]]
    assert run(init, "upgrade", "/new").stdout == b"committed\n"


@pytest.mark.parametrize(
    "id, text", [("refused", "refused: a blocker"), ("rolled-back", "rolled back: nginx never got ready"),
                 ("failed", "failed: no memory"), ("ok", "committed")])
@pytest.mark.parametrize("verb", ["upgrade", "rollback", "commit"])
def test_last_line_of_an_upgrade(init, verb, id, text):
    init.answers = [[UPGRADE[3], result(id, text)]]
    done = run(init, *VERBS[verb])
    assert done.stdout.splitlines()[-1].decode() == text
    assert done.stderr == b""


def test_last_line_without_a_text(init):
    assert run(init, "upgrade", "/new").stdout == b"ok\n"


def test_upgrade_that_was_not_tried(init):
    init.answers = [[result("busy", "another upgrade is under way")]]
    done = run(init, "upgrade", "/new")
    assert (done.returncode, done.stdout) == (5, b"")
    assert done.stderr == b"initctl: another upgrade is under way\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_upgrade_shows_each_event_as_it_comes(init, options):
    seen = {name: threading.Event() for name in ("freeze", "thaw")}

    def slowly(connection, _):
        for name in seen:
            connection.send(phase(name, 900, 1))
            assert seen[name].wait(DEADLINE), f"{name} was not shown while the upgrade ran"
        connection.send(result("ok", "committed"))

    init.answers = [slowly]
    with Running(init, "upgrade", "/new", *options) as running:
        for name, event in seen.items():
            running.read_until(name.encode())
            running.read_until(b"\n")
            event.set()
        assert running.end()[0] == 0
    assert b"committed" in running.output


def test_dry_run_shows_the_plan_and_ends_with_the_result(init):
    init.answers = [[PLAN[0], phase("plan", 12000, 0), *PLAN[1:], BLOCKER, result("ok", "nothing was changed")]]
    out = run(init, "upgrade", "--dry-run", "/new").stdout.decode()
    assert out.startswith("  plan               12.0 ms\n\nUpgrade to generation 4: /new\n")
    assert "\nServices, in this order\n" in out and "\nWhat forbids it\n" in out
    assert out.endswith("\n\nnothing was changed\n")


def test_dry_run_without_a_plan(init):
    init.answers = [[result("refused", "refused: /new is no image")]]
    assert run(init, "upgrade", "--dry-run", "/new").stdout == b"refused: /new is no image\n"


def test_interrupted_upgrade_goes_on(init):
    told = threading.Event()

    def wait(connection, _):
        connection.send(phase("freeze", 900, 1))
        assert told.wait(DEADLINE)

    init.answers = [wait]
    with Running(init, "upgrade", "/new") as running:
        running.read_until(b"freeze")
        running.process.send_signal(signal.SIGINT)
        code, err = running.end()
        told.set()
    assert code == 130
    assert b"goes on without this command; `initctl status` shows how things are\n" in err


# ---- JSON ----------------------------------------------------------------------------------------


def test_json_status(init):
    init.answers = [[SYSTEM, NGINX, BACKUP, result()]]
    parsed = document(run(init, "--json", "status"))
    assert list(parsed) == ["system", "attached", "scheduled", "services", "result", "text"]
    assert parsed["system"] == {
        "version": "0.1.0", "generation": 3, "state": "running",
        "image": "Debian GNU/Linux 12 (bookworm)", "up_usec": 273600000000, "rss_bytes": 1258291,
        "kernel": "6.1.0-18-amd64", "init_pid": 1,
    }
    nginx, backup = parsed["services"]
    assert nginx["name"] == "nginx.service" and nginx["main_pid"] == 412 and nginx["restarts"] == 0
    assert nginx["listen"] == ["0.0.0.0:80", "[::]:443"] and nginx["exe_generation"] == 3
    assert backup["main_pid"] is None and backup["listen"] == [] and backup["status"] is None
    assert (parsed["result"], parsed["text"]) == ("ok", "")


def test_json_of_what_is_no_number(init):
    init.answers = [[record("unit", "a.service", main_pid="12x", restarts="", tasks="9" * 40), result()]]
    (unit,) = document(run(init, "--json"))["services"]
    assert (unit["main_pid"], unit["restarts"], unit["tasks"]) == (None, None, None)


def test_json_plan(init):
    init.answers = [[*PLAN, WARNING, BLOCKER, result("refused", "no")]]
    done = run(init, "plan", "--json", "/new")
    parsed = document(done)
    assert done.returncode == 3
    assert parsed["plan"] == {"path": "/new", "generation": 4, "from": "Debian 12.4", "to": "Debian 12.5",
                              "image": None, "fstype": None, "mode": None, "device": None, "verity": False}
    assert parsed["mounts"][0] == {"path": "/proc", "action": "move", "fstype": "proc"}
    assert parsed["services"][0]["policy"] == "reexec"
    assert parsed["blockers"] == ["rsyslogd (777) writes /var/lib/rsyslog/state on the old image"]
    assert len(parsed["warnings"]) == 1 and parsed["result"] == "refused"


def test_what_kind_of_image(init):
    """It is told to people in one line, and asked for by options that come as fields."""
    init.answers = [[record("plan", "/run/my.img", generation=4, image="file", fstype="squashfs", mode="ro", verity="yes",
                            device="/dev/dm-0"), result()]]
    done = run(init, "plan", "--mount-options=noatime", "--read-only", "--verity-hash=/dev/v", "--root-hash=00ff",
               "--root-hash-sig=/s", "/run/my.img")
    assert b"squashfs file, read-only, with dm-verity, on /dev/dm-0" in done.stdout, done
    verb, fields = init.requests[0]
    assert verb == "plan" and fields == {
        "path": "/run/my.img", "mount_options": "noatime", "read_only": "yes", "verity_hash": "/dev/v", "root_hash": "00ff",
        "root_hash_signature": "/s"}


def test_json_holders(init):
    init.answers = [[HOLDERS[3], result()]]
    assert document(run(init, "--json", "holders"))["holders"] == [{
        "pid": 777, "comm": "rsyslogd", "unit": "syslog.service", "uid": None, "tid": None, "generation": 2, "what": "file",
        "fd": 7, "mode": "rw", "path": "/var/lib/rsyslog/state", "part": None, "deleted": False, "more": None, "action": "blocks",
        "why": None, "advice": "restart it, or put /var/lib on a mount of its own",
    }]


def test_json_version(init):
    init.answers = [[SYSTEM, result()]]
    parsed = document(run(init, "--json", "version"))
    assert parsed["system"]["version"] == "0.1.0" and re.fullmatch(r"\d+\.\d+\.\d+", parsed["initctl"])


def test_json_of_several_services(init):
    init.answers = [[result()], [result("failed", "it would not")]]
    done = run(init, "--json", "start", "a", "b")
    assert done.returncode == 1
    assert document(done) == {"services": [
        {"name": "a.service", "result": "ok", "text": ""},
        {"name": "b.service", "result": "failed", "text": "it would not"},
    ]}


@pytest.mark.parametrize("verb", ["reexec", "poweroff", "reboot", "halt"])
def test_json_of_a_bare_result(init, verb):
    assert document(run(init, "--json", verb)) == {"result": "ok", "text": ""}


def test_json_upgrade(init):
    init.answers = [[*UPGRADE, result("rolled-back", "rolled back: nginx never got ready")]]
    done = run(init, "upgrade", "--json", "/new")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    assert {"event": "phase", "name": "freeze", "usec": 900, "blackout": True} in events
    assert {"event": "phase", "name": "exec", "usec": 20100, "blackout": False} in events
    assert {"event": "progress", "text": "nginx is on the new image"} in events
    assert {"event": "blackout", "usec": 5300, "processes": 212, "migrated": 3, "left": 9,
            "tries": 1} in events
    assert [e["pid"] for e in events if e["event"] == "holder"] == [512]
    assert events[-1] == {"event": "result", "result": "rolled-back",
                          "text": "rolled back: nginx never got ready"}


def test_json_of_hostile_text(init):
    init.answers = [[record("unit", HOSTILE, status=HOSTILE), result("ok", HOSTILE)]]
    done = run(init, "--json")
    parsed = json.loads(done.stdout.decode())  # it is UTF-8, whatever went in
    expected = HOSTILE.replace(b"\x9b2J", "\ufffd2J".encode()).decode()
    assert parsed["services"][0]["name"] == parsed["services"][0]["status"] == parsed["text"] == expected
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", done.stdout) and b"\xc2\x9b" not in done.stdout


@pytest.mark.parametrize(
    "raw, text",
    [
        (b"\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x9e", "é€🦞"),
        (b"\xc3", "\ufffd"),  # cut off
        (b"\xe2\x82x", "\ufffd\ufffdx"),
        (b"\xc0\xaf", "\ufffd\ufffd"),  # overlong
        (b"\xe0\x80\xaf", "\ufffd\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),  # a surrogate
        (b"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),  # above U+10FFFF
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_json_is_utf8(init, raw, text):
    init.answers = [[result("ok", raw)]]
    assert json.loads(run(init, "--json", "reexec").stdout.decode())["text"] == text


# ---- terminals -----------------------------------------------------------------------------------

SHOWN = {
    "status": ([], [SYSTEM, NGINX, POSTGRES, BACKUP, SPOOLER, result()]),
    "plan": (["plan", "/new"], [*PLAN, WARNING, BLOCKER, result("refused", "no")]),
    "holders": (["holders"], [*HOLDERS, result()]),
}


def hostile_answer(kind):
    everything = {key: HOSTILE for key in [
        "generation", "state", "image", "kernel", "warning", "description", "policy", "status", "result",
        "source", "log", "type", "tasks", "main_pid", "listen", "from", "to", "action", "fstype", "comm",
        "unit", "what", "fd", "mode", "path", "advice", "text"]}
    return record(kind, HOSTILE, *everything.items())


KINDS = ["system", "unit", "plan", "mount", "service", "holder", "blocker", "warning", "phase", "progress"]


@pytest.mark.parametrize("id", ["ok", "failed", "refused"])
@pytest.mark.parametrize("arguments", [*VERBS.values(), ["status", "a"]], ids=" ".join)
def test_hostile_text_does_not_reach_the_terminal(init, arguments, id):
    init.answers = [[*map(hostile_answer, KINDS), result(id, HOSTILE)]]
    for columns in (37, 200):
        _, output = run_on_terminal(init, *arguments, columns=columns)
        plain = COLOUR.sub(b"", output).replace(b"\xe2\x80\xa6", b"")
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f-\xff]", plain), plain
        assert b"\x1b[31mevil" not in output
    done = run(init, *arguments)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f-\xff]", done.stdout + done.stderr)
    if arguments[0] not in ("version",) or id != "ok":
        assert b"\\x1b]0;pwned\\x07" in done.stdout + done.stderr or not (done.stdout + done.stderr)


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("columns", [1, 10, 30, 40, 60, 80, 100, 132, 250])
def test_tables_fit_the_terminal(init, shown, columns):
    arguments, answer = SHOWN[shown]
    wide = record("unit", "名前がとても長いサービス.service", state="running", status="é" * 300, main_pid=4194304)
    init.answers = [[*([wide] if shown == "status" else []), *answer]]
    code, output = run_on_terminal(init, *arguments, columns=columns, env={"NO_COLOR": "1"})
    assert code == (3 if shown == "plan" else 0)
    if columns < 30:
        return  # a word alone is wider: it is enough that it copes
    for line in output.decode().split("\n"):
        assert columns_of(line.encode()) <= columns or " " not in line.strip(), line


@pytest.mark.parametrize(
    "columns, titles",
    [(100, "SERVICE STATE FOR PID MEMORY RESTARTS UPGRADE GEN STATUS"),
     (60, "SERVICE STATE FOR PID UPGRADE STATUS"), (45, "SERVICE STATE PID MEMORY STATUS"),
     (25, "SERVICE STATE PID"), (20, "SERVICE STATE")],
)
def test_columns_find_room_in_the_order_of_their_importance(init, columns, titles):
    init.answers = [[NGINX, POSTGRES, BACKUP, SPOOLER, result()]]
    _, output = run_on_terminal(init, columns=columns, env={"NO_COLOR": "1"})
    assert output.decode().splitlines()[0].split() == titles.split()


def test_a_long_name_does_not_push_the_rest_out(init):
    init.answers = [[record("unit", "n" * 200, state="running", main_pid=412, status="well"), result()]]
    _, output = run_on_terminal(init, columns=60, env={"NO_COLOR": "1"})
    titles, row = output.decode().splitlines()[:2]
    assert re.fullmatch("n+…  running  412  well", row) and len(titles) == 60


def test_what_is_cut_ends_in_an_ellipsis(init):
    init.answers = [[record("unit", "a.service", state="running", status="x" * 300), result()]]
    _, output = run_on_terminal(init, "status", columns=80)
    assert "xxx…".encode() in output
    _, output = run_on_terminal(init, "status", columns=80, env={"LANG": "C"})
    assert b"xxx~" in output and "…".encode() not in output


def test_width_of_a_serial_console(init):
    """It does not know its size (0 columns): COLUMNS says it, and 80 is the guess."""
    init.answers = [[record("unit", "a.service", state="running", status="x" * 300), result()]]
    for columns, width in (("60", 60), ("nonsense", 80), ("", 80), ("999999999", 80)):
        _, output = run_on_terminal(init, columns=0, env={"COLUMNS": columns, "NO_COLOR": "1"})
        assert widest(output) == width


def test_nothing_is_cut_in_a_pipe(init):
    status = "é" * 5000
    init.answers = [[record("unit", "a.service", state="running", status=status), result()]]
    done = run(init, env={"COLUMNS": "40"})
    assert status.encode() in done.stdout and "…".encode() not in done.stdout


@pytest.mark.parametrize("shown", SHOWN)
def test_colour_only_where_it_is_wanted(init, shown):
    arguments, answer = SHOWN[shown]
    init.answers = [answer]
    assert COLOUR.search(run_on_terminal(init, *arguments)[1])
    assert COLOUR.search(run_on_terminal(init, *arguments, env={"NO_COLOR": ""})[1])
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": None}):
        assert b"\x1b" not in run_on_terminal(init, *arguments, env=env)[1]
    assert b"\x1b" not in run(init, *arguments).stdout


def test_states_are_coloured(init):
    init.answers = [SHOWN["status"][1]]
    _, output = run_on_terminal(init, columns=120)
    assert b"\x1b[32mrunning\x1b[0m" in output and b"\x1b[31mfailed\x1b[0m" in output


def test_commands_are_not_broken_over_lines(init):
    init.answers = [[HOLDERS[0], result()]]
    _, output = run_on_terminal(init, "holders", columns=50)
    assert b"`initctl restart postgres`" in output


# ---- outputs that go away ------------------------------------------------------------------------


@pytest.mark.parametrize("sigpipe", [signal.SIG_DFL, signal.SIG_IGN])
@pytest.mark.parametrize("arguments", [["holders"], ["--json", "holders"], ["upgrade", "/new"], ["help"]],
                         ids=" ".join)
def test_closed_output_is_quiet(init, arguments, sigpipe):
    """`initctl holders | head -1`: and an upgrade is still waited for, for its exit code."""
    holders = [record("holder", i, comm="x" * 50, what="cwd") for i in range(5000)]
    init.answers = [[*holders, phase("freeze", 1, 1), result("rolled-back", "rolled back: so")]]
    reader, writer = os.pipe()
    os.close(reader)
    done = run(init, *arguments, stdout=writer, preexec_fn=lambda: signal.signal(signal.SIGPIPE, sigpipe))
    os.close(writer)
    expected = {"help": (0, b""), "upgrade": (4, b"")}
    code, err = expected.get(arguments[0], (4, b"initctl: rolled back: so\n"))
    assert (done.returncode, done.stderr) == (code, err)


@pytest.mark.parametrize("arguments", [["status"], ["--json"], ["help"], ["upgrade", "/new"]], ids=" ".join)
def test_full_disk_is_told(init, arguments):
    init.answers = [[SYSTEM, *[NGINX] * 100, result("ok", "committed")]]
    with open("/dev/full", "wb") as full:
        done = run(init, *arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == b"initctl: cannot write the output: No space left on device\n"


# ---- log -----------------------------------------------------------------------------------------


@pytest.fixture
def log(init, tmp_path):
    path = tmp_path / "nginx.log"
    init.answers = [[record("log", "nginx.service", path=str(path)), result()]]
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(1, 101)))
    return path


def test_log_prints_the_last_lines(init, log):
    assert run(init, "log", "nginx").stdout.split(b"\n")[0] == b"line 81"
    assert run(init, "log", "nginx", "-n", "2").stdout == b"line 99\nline 100\n"
    assert run(init, "log", "-n0", "nginx").stdout == b""
    assert run(init, "log", "--lines=1", "nginx").stdout == b"line 100\n"
    assert run(init, "log", "-n", "100", "nginx").stdout == log.read_bytes()
    assert run(init, "log", "-n", "1000", "nginx").stdout == log.read_bytes()
    assert run(init, "log", "-n", "all", "nginx").stdout == log.read_bytes()


@pytest.mark.parametrize(
    "content, lines, printed",
    [
        (b"", "5", b""),
        (b"\n", "5", b"\n"),
        (b"\n\n\n", "2", b"\n\n"),
        (b"no end", "1", b"no end"),
        (b"one\nno end", "1", b"no end"),
        (b"one\nno end", "2", b"one\nno end"),
        (b"x" * 200000 + b"\nlast\n", "1", b"last\n"),
        (b"first\n" + b"x" * 200000 + b"\n", "1", b"x" * 200000 + b"\n"),
        (b"a\n" * 65536, "65535", b"a\n" * 65535),
        (b"y" * 65535 + b"\n" + b"z" * 65536, "1", b"z" * 65536),
        (bytes(range(256)), "all", bytes(range(256))),
    ],
)
def test_log_of_any_content(init, log, content, lines, printed):
    log.write_bytes(content)
    assert run(init, "log", "nginx", "-n", lines).stdout == printed


def test_log_as_json(init, log):
    log.write_bytes(b"plain\n\xff\x1b[0m\nno end")
    lines = run(init, "log", "--json", "nginx").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"event": "line", "text": "plain"},
        {"event": "line", "text": "\ufffd\x1b[0m"},
        {"event": "line", "text": "no end"},
    ]


def test_log_on_a_terminal_is_harmless(init, log):
    log.write_bytes(HOSTILE + b"\n\ttab\n" + "é\n".encode())
    _, output = run_on_terminal(init, "log", "nginx")
    assert b"\\x1b]0;pwned\\x07" in output and b"\x1b" not in output
    assert output.endswith("\n\ttab\né\n".encode())


def test_log_without_a_file(init, log):
    log.unlink()
    done = run(init, "log", "nginx")
    assert done.returncode == 1
    assert done.stderr.decode() == f"initctl: nothing has been written yet: there is no {log}\n"


def test_log_that_is_not_kept(init):
    init.answers = [[record("log", "nginx.service", path=""), result()]]
    done = run(init, "log", "nginx")
    assert done.returncode == 1 and b"no log" in done.stderr


def append(path, text):
    with open(path, "ab") as f:
        f.write(text)


def test_log_follows(init, log):
    with Running(init, "log", "-f", "-n", "1", "nginx") as running:
        running.read_until(b"line 100\n")
        append(log, b"more\nand ")
        running.read_until(b"more\n")
        append(log, b"more\n")
        running.read_until(b"and more\n")
    assert running.output == b"line 100\nmore\nand more\n"


def test_log_follows_a_rotation(init, log, tmp_path):
    with Running(init, "log", "--follow", "-n", "1", "nginx") as running:
        running.read_until(b"line 100\n")
        old = open(log, "ab", buffering=0)
        log.rename(tmp_path / "nginx.log.1")
        old.write(b"last of the old\n")  # the writer goes on until it has the new file
        running.read_until(b"last of the old\n")
        old.close()
        append(log, b"first of the new\n")
        running.read_until(b"first of the new\n")
        for i in range(20):
            log.rename(tmp_path / "nginx.log.1")
            append(log, b"file %d\n" % i)
            running.read_until(b"file %d\n" % i)
        (tmp_path / "fresh").write_bytes(b"renamed here\n")
        (tmp_path / "fresh").rename(log)
        running.read_until(b"renamed here\n")
    assert running.output.count(b"\n") == 24


def test_log_follows_what_was_cut(init, log):
    with Running(init, "log", "-f", "-n", "1", "nginx") as running:
        running.read_until(b"line 100\n")
        log.write_bytes(b"anew\n")
        running.read_until(b"anew\n")
        append(log, b"and on\n")
        running.read_until(b"and on\n")


def test_log_follows_what_is_not_there_yet(init, log):
    log.unlink()
    with Running(init, "log", "-f", "nginx") as running:
        append(log, b"first\n")
        running.read_until(b"first\n")


def test_log_follow_as_json(init, log):
    with Running(init, "log", "-f", "-n1", "--json", "nginx") as running:
        running.read_until(b'{"event":"line","text":"line 100"}\n')
        append(log, b"x\n")
        running.read_until(b'{"event":"line","text":"x"}\n')


def test_log_follow_ends_with_its_reader(init, log):
    """As with tail -f: when head has read enough it ends, not at the next line of the log."""
    with Running(init, "log", "-f", "-n", "1", "nginx") as running:
        running.read_until(b"line 100\n")
        running.process.stdout.close()
        assert running.process.wait(DEADLINE) == 0
        assert running.process.stderr.read() == b""


# ---- completion ----------------------------------------------------------------------------------


def complete(init, *words):
    script = f'. "{COMPLETION}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _initctl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", INITCTL, *words], env=environment(init.path), capture_output=True,
        timeout=DEADLINE, check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode().split()


def test_completion(init):
    evil = record("unit", "$(touch pwned).service", state="failed", status='"name":"no.service"')
    init.answers = [[SYSTEM, NGINX, POSTGRES, evil, result()]]
    assert complete(init, "sta") == ["status", "start"]
    assert complete(init, "restart", "n") == ["nginx"]
    assert complete(init, "restart", "nginx", "po") == ["postgres"]
    assert complete(init, "status", "no") == []
    assert complete(init, "upgrade", "--d") == ["--dry-run"]
    assert complete(init, "log", "--f") == ["--follow"]
    assert complete(init, "help", "up") == ["upgrade"]
    assert not os.path.exists("pwned")


def test_completion_knows_every_verb(init):
    verbs = re.findall(rb"^  ([a-z]+) (?=[ A-Z\[])", run(init, "help").stdout, re.M)
    assert sorted(complete(init, "")) == sorted(v.decode() for v in verbs)
