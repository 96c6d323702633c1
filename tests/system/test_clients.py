# SPDX-License-Identifier: MIT
"""libmolt-client, its two examples, and what docs/writing-services.md tells authors to write."""
import pathlib
import re
import subprocess

import pytest

from helpers import outside, wait_said
from machine import BUILD, TOP, wait_until
from outside import last_word

pytestmark = pytest.mark.timeout(180)

EXAMPLES = TOP / "services/client/examples"
PORTS = {"echo": 7000, "echo-py": 7001}

# Talks to both for as long as it is not told to end; every answer must be the next one of its connection.
TALKER = """
import select, socket, sys
socks = {port: socket.create_connection(("127.0.0.1", port), 10) for port in (7000, 7001)}
files = {port: s.makefile("rwb") for port, s in socks.items()}
print("connected", flush=True)
n = 0
while not select.select([sys.stdin], [], [], 0.001)[0]:
    n += 1
    for port, f in files.items():
        f.write(b"line %d\\n" % n); f.flush()
        got = f.readline()
        if got != b"%d line %d\\n" % (n, n):
            sys.exit("port %d answered %r to line %d" % (port, got, n))
print("answered", n, flush=True)
"""
# One connection, driven by the test: what is read from standard input is sent as it is; "?" reads a line.
CLIENT = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
f = s.makefile("rb")
for command in sys.stdin:
    if command == "?\\n":
        print(f.readline().decode().rstrip("\\n"), flush=True)
    else:
        s.sendall(command[:-1].encode().decode("unicode_escape").encode())
        print("sent", flush=True)
"""


class Client:
    def __init__(self, machine, port):
        self.process = machine.popen("/usr/bin/python3", "-c", CLIENT, port, stdin=subprocess.PIPE)

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def send(self, text):
        assert self.ask(text) == "sent"

    def line(self):
        return self.ask("?")

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def examples(machine):
    for image in machine.images.values():
        image.conf(services=["echo.service", "echo-py.service"])
        image.copy(BUILD / "examples/echo", "usr/bin/molt-echo")
        image.copy(EXAMPLES / "echo.py", "usr/bin/molt-echo.py").chmod(0o755)
        for name in PORTS:
            image.service(name, (EXAMPLES / f"{name}.service").read_text())


def places(machine):
    """{name: (pid, whether its program is of the image that is the root)}"""
    found = {}
    for name in PORTS:
        pid = machine.unit(name)["main_pid"]
        host = outside(machine, pid)
        found[name] = (pid, machine.mount_id(host, "exe") == machine.mount_id(machine.pid))
    return found


def test_connections_outlive_the_program(machine):
    """Over a refused upgrade, an upgrade, a re-exec of PID 1 and a rollback: same PIDs, same connections, on the new
    program each time, and nobody who talked noticed."""
    examples(machine)
    machine.images["two"].conf(services=["echo.service", "echo-py.service", "bad.service"])
    bad = ("[Unit]\nAfter=echo.service echo-py.service\n[Service]\nExecStartPre=/usr/bin/bad\nExecStart=/usr/bin/sleep 1000\n"
           "[Upgrade]\nPolicy=restart\n")
    machine.images["one"].write("usr/bin/bad", "#!/bin/sh\ntest ! -e /run/share/fail || exit 7\n", 0o755)
    machine.images["two"].write("usr/bin/bad", "#!/bin/sh\n", 0o755)
    for image in machine.images.values():
        image.service("bad", bad)
    machine.start()
    for name in PORTS:
        machine.wait_state(name)
    before = places(machine)
    talker = machine.popen("/usr/bin/python3", "-c", TALKER, stdin=subprocess.PIPE)
    assert talker.stdout.readline() == "connected\n"
    half = {name: Client(machine, port) for name, port in PORTS.items()}
    for client in half.values():
        client.send("hel")

    holder = Client(machine, PORTS["echo-py"])
    holder.send("hold\\n")
    assert holder.line() == "1 hold"
    code, told = machine.upgrade("two", check=False)
    assert (code, last_word(told)) == (3, "refused: echo-py: a client asked to hold"), machine.report()
    assert machine.image() == "one" and places(machine) == before
    holder.send("release\\n")
    assert holder.line() == "2 release"

    assert machine.upgrade("two")[0] == 0
    assert machine.image() == "two"
    assert places(machine) == before, machine.report()
    for client in half.values():
        client.send("lo\\nwor")
        assert client.line() == "1 hello"
    machine.initctl("reexec")

    machine.initctl("start", "bad")
    (machine.share / "fail").write_text("")
    code, told = machine.upgrade("one", check=False)
    assert code == 4 and "bad.service" in last_word(told), (told, machine.report())
    assert machine.image() == "two"
    assert places(machine) == before, machine.report()
    for client in half.values():
        client.send("ld\\n")
        assert client.line() == "2 world"
        client.close()
    holder.send("again\\n")
    assert holder.line() == "3 again"
    holder.close()
    output, _ = talker.communicate("end\n", timeout=20)
    assert talker.returncode == 0 and int(output.split()[-1]) > 10, output


def test_a_program_that_is_not_there_rolls_back(machine):
    """molt_client_reexec() returns, says so, and the connection is still served."""
    examples(machine)
    (machine.images["two"].directory / "usr/bin/molt-echo").unlink()
    machine.start()
    machine.wait_state("echo")
    machine.wait_state("echo-py")
    before = places(machine)
    client = Client(machine, PORTS["echo"])
    code, told = machine.upgrade("two", check=False)
    assert code == 4, (told, machine.report())
    assert "cannot execute /usr/bin/molt-echo: No such file or directory" in last_word(told)
    assert places(machine) == before
    client.send("x\\n")
    assert client.line() == "1 x"
    client.close()


# The page


def blocks():
    """{file: (language, text)}"""
    text = (TOP / "docs/writing-services.md").read_text()
    found = re.findall(r"```(\w+) name=(\S+)\n(.*?)```", text, re.S)
    return {name: (language, body) for language, name, body in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An installation as an author finds it."""
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(["make", "-s", "-C", str(TOP), f"BUILD={BUILD}", f"PREFIX={prefix}", "install"], check=True,
                   stdout=subprocess.DEVNULL)
    return prefix


def compile_with(prefix, source, target, *options, compiler="cc"):
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "molt-client"], check=True, text=True,
                           stdout=subprocess.PIPE, env={"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig",
                                                        "PATH": "/usr/bin:/bin"}).stdout.split()
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", *options, "-o", target, source, *flags], check=True)


def test_every_snippet_of_the_page_compiles(installed, tmp_path):
    page = blocks()
    assert {language for language, _ in page.values()} == {"c", "ini", "python"}
    assert len(re.findall(r"^```(c|python|ini)\b", (TOP / "docs/writing-services.md").read_text(), re.M)) == len(page)
    for name, (language, body) in page.items():
        (tmp_path / name).write_text(body)
        if language == "c":
            compile_with(installed, tmp_path / name, tmp_path / (name + ".out"))
        elif language == "python":
            compile(body, name, "exec")
    for name in ("ready.c", "store.c"):  # those that end; nobody listens here, and that must be fine
        subprocess.run([tmp_path / (name + ".out")], check=True, env={})


def test_the_header_is_for_every_dialect(installed, tmp_path):
    for name, compiler, options in (("x.c", "cc", ("-std=c99", "-pedantic")), ("x.cc", "c++", ("-std=c++11",))):
        (tmp_path / name).write_text("#include <molt-client.h>\nint main(void) { return molt_listen_fds(); }\n")
        compile_with(installed, tmp_path / name, tmp_path / "x", *options, compiler=compiler)
        subprocess.run([tmp_path / "x"], check=True)


def test_the_pages_example_does_what_it_says(machine, installed, tmp_path):
    page = blocks()
    (tmp_path / "hits.c").write_text(page["hits.c"][1])
    compile_with(installed, tmp_path / "hits.c", tmp_path / "hits")
    minimal = ("[Service]\nType=notify\nExecStart=/usr/bin/python3 /usr/bin/minimal.py\n"
               "[Upgrade]\nPolicy=reexec\nHandshake=yes\n")
    for image in machine.images.values():
        image.conf(services=["hits.service", "minimal.service"])
        image.copy(tmp_path / "hits", "usr/bin/hits")
        image.service("hits", page["hits.service"][1])
        image.write("usr/bin/minimal.py", page["minimal.py"][1])
        image.service("minimal", minimal)
    machine.start()
    for name in ("hits", "minimal"):
        machine.wait_state(name)
    pids = [machine.unit(name)["main_pid"] for name in ("hits", "minimal")]
    visit = ("/usr/bin/python3", "-c", "import socket; print(socket.create_connection(('127.0.0.1', 7002), 10)"
             ".makefile().readline())")
    assert [int(machine.run(*visit).stdout) for _ in range(3)] == [1, 2, 3]
    assert "is asked first; re-execs itself when it is told to by $MOLT_FD" in machine.initctl(
        "plan", "/run/images/two").stdout
    machine.path("/run/hits.busy").write_text("")
    code, told = machine.upgrade("two", check=False)
    assert (code, last_word(told)) == (3, "refused: hits: the day's report is being written")
    machine.path("/run/hits.busy").unlink()
    assert machine.upgrade("two")[0] == 0
    assert int(machine.run(*visit).stdout) == 4
    assert [machine.unit(name)["main_pid"] for name in ("hits", "minimal")] == pids


def test_uninstall_leaves_nothing(tmp_path):
    make = ["make", "-s", "-C", str(TOP), f"BUILD={BUILD}", f"DESTDIR={tmp_path}", "PREFIX=/usr"]
    subprocess.run([*make, "install"], check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "usr/lib/pkgconfig/molt-client.pc").read_text().startswith("prefix=/usr\n")
    assert (tmp_path / "usr/share/doc/molt/examples/echo.py").exists()
    subprocess.run([*make, "uninstall"], check=True, stdout=subprocess.DEVNULL)
    assert [path for path in pathlib.Path(tmp_path).rglob("*") if not path.is_dir()] == []


def test_stored_descriptors_by_the_library(machine, installed, tmp_path):
    """molt_store_fd() and molt_listen_fd(): the page's open_state(), over a restart."""
    source = blocks()["store.c"][1].replace("return open_state() < 0;", """int fd = open_state();
	char text[2] = "0";
	pread(fd, text, 1, 0);
	text[0] = text[0] ? text[0] + 1 : 'a';
	pwrite(fd, text, 1, 0);
	dprintf(1, "now %s\\n", text);
	molt_notify("READY=1");
	pause();
	return 0;""").replace("#include <unistd.h>", "#include <unistd.h>\n#include <stdio.h>")
    (tmp_path / "store.c").write_text(source)
    compile_with(installed, tmp_path / "store.c", tmp_path / "store", "-Wno-unused-result")
    for image in machine.images.values():
        image.conf(services=["store.service"])
        image.copy(tmp_path / "store", "usr/bin/store")
        image.service("store", "[Service]\nType=notify\nExecStart=/usr/bin/store\nFileDescriptorStoreMax=4\n"
                               "[Upgrade]\nPolicy=restart\n")
    machine.start()
    wait_said(machine, "store", "now a")
    machine.initctl("restart", "store")
    wait_said(machine, "store", "now b")
    machine.initctl("reexec")
    assert machine.upgrade("two")[0] == 0
    wait_said(machine, "store", "now c")
    machine.initctl("stop", "store")
    machine.initctl("start", "store")
    wait_until(lambda: wait_said(machine, "store", "now a\nnow b\nnow c\nnow a"))
