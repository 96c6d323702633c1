# SPDX-License-Identifier: MIT
"""Daemons as distributions ship them: with a .socket unit beside the service, as a user of their own with
some capabilities left, in directories that are made for them."""
import grp
import os
import pwd
import socket
import stat

import pytest

from helpers import request, script, service, start, state, stop, wait_said
from machine import wait_until

pytestmark = pytest.mark.timeout(120)

@pytest.fixture
def booted(machine):
    return machine.start()


# Like dbus.socket, docker.socket and systemd-journald-dev-log.socket in one.
SOCKETS = """[Unit]
Conflicts=none.service
[Socket]
ListenStream=/run/bus/d.sock
ListenDatagram=/run/bus/d.dgram
SocketMode=0660
SocketUser=daemon
SocketGroup=mail
PassCredentials=yes
"""

# Tells what it was given, and then what each datagram said.
DAEMON = """import os, socket
count, names = os.environ['LISTEN_FDS'], os.environ['LISTEN_FDNAMES']
sockets = [socket.socket(fileno=3 + n) for n in range(int(count))]
print(count, names, *(s.type.name for s in sockets), flush=True)
while True:  # blocking, as daemons may expect
    print('got', sockets[1].recv(100).decode(), flush=True)
"""


def socket_unit(machine, name, text):
    directory = machine.path("/run/molt/system")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.socket").write_text(text)


def daemon(machine, *unit):
    socket_unit(machine, "d", SOCKETS)
    program = script(machine, "d.py", DAEMON, shell="/usr/bin/python3")
    service(machine, "d", start=program, unit=("Requires=d.socket", *unit))


def send(machine, text):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.sendto(text, str(machine.path("/run/bus/d.dgram")))
    client.close()


def test_a_service_gets_the_sockets_of_its_socket_unit(booted):
    daemon(booted)
    start(booted, "d")
    wait_said(booted, "d", "2 d.socket:d.socket SOCK_STREAM SOCK_DGRAM")
    assert booted.unit("d")["listen"] == ["/run/bus/d.sock", "datagram:/run/bus/d.dgram"]
    for name in ("d.sock", "d.dgram"):
        at = booted.path(f"/run/bus/{name}").stat()
        assert stat.S_ISSOCK(at.st_mode) and stat.S_IMODE(at.st_mode) == 0o660
        assert (at.st_uid, at.st_gid) == (pwd.getpwnam("daemon").pw_uid, grp.getgrnam("mail").gr_gid)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(booted.path("/run/bus/d.sock")))
    # Over a re-exec of PID 1 and a restart they stay the same, with what waits in them.
    inode = booted.path("/run/bus/d.dgram").stat().st_ino
    booted.initctl("reexec")
    send(booted, b"one")
    wait_said(booted, "d", "got one")
    start(booted, "d", verb="restart")
    send(booted, b"two")
    wait_said(booted, "d", "got two")
    assert booted.path("/run/bus/d.dgram").stat().st_ino == inode


def test_sockets_are_there_before_whoever_starts_meanwhile(booted):
    """Who connects to a daemon that is started too, and is not ordered after it, waits for its answer."""
    daemon(booted, "After=slow.service", "Requires=slow.service")
    service(booted, "slow", "Type=oneshot", "RemainAfterExit=yes",
            start="/bin/sh -c 'read -r line </run/share/gate'")
    os.mkfifo(booted.share / "gate")
    client = request(booted, "start", unit="d")
    wait_until(booted.path("/run/bus/d.dgram").exists, what="the socket")
    assert state(booted, "d") == "waiting"
    send(booted, b"early")
    (booted.share / "gate").write_text("go\n")
    wait_said(booted, "d", "got early")
    client.close()


def test_links_lead_to_the_socket(booted):
    """As /dev/log does; what is no link is somebody's and stays."""
    booted.path("/run/taken").write_text("mine")
    booted.path("/run/old").symlink_to("/nowhere")
    for name, link in (("a", "/run/deep/log /run/old"), ("b", "/run/taken")):
        socket_unit(booted, name, f"[Socket]\nListenDatagram=/run/{name}/x\nSymlinks={link}\n")
        service(booted, name, unit=(f"Requires={name}.socket",))
    start(booted, "a")
    assert os.readlink(booted.path("/run/deep/log")) == os.readlink(booted.path("/run/old")) == "/run/a/x"
    assert stat.S_IMODE(booted.path("/run/a/x").stat().st_mode) == 0o666
    assert "cannot listen on datagram:/run/b/x: File exists" in start(booted, "b", code=1)
    assert booted.path("/run/taken").read_text() == "mine"


def test_user_with_ambient_capabilities(booted):
    """Programs that it executes have them as well, and nothing else of root's."""
    service(booted, "a", "Type=oneshot", "User=daemon", "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_KILL",
            start="/bin/sh -c 'grep ^Cap /proc/self/status'")
    start(booted, "a")
    sets = dict(line.split(":\t") for line in booted.path("/var/log/molt/a.log").read_text().splitlines())
    both = 1 << 10 | 1 << 5
    assert [int(sets[f"Cap{which}"], 16) for which in ("Inh", "Prm", "Eff", "Amb")] == [both] * 4, sets
    service(booted, "b", "Type=oneshot", "User=daemon", start="/bin/sh -c 'grep ^CapEff /proc/self/status'")
    start(booted, "b")
    assert booted.path("/var/log/molt/b.log").read_text().split() == ["CapEff:", "0" * 16]


def test_directories_are_made(booted):
    uid = pwd.getpwnam("daemon").pw_uid
    booted.path("/run/elsewhere").mkdir()
    booted.path("/run/three").symlink_to("/run/elsewhere")
    service(booted, "a", "User=daemon", "UMask=0077", "RuntimeDirectory=one two/deep three", "RuntimeDirectoryMode=2750",
            "LogsDirectory=of-a", "CacheDirectory=of-a", "ConfigurationDirectory=of-a")
    start(booted, "a")
    for path, mode, owner in (("/run/one", 0o2750, uid), ("/run/two/deep", 0o2750, uid), ("/run/two", 0o755, 0),
                              ("/var/log/of-a", 0o755, uid), ("/var/cache/of-a", 0o755, uid),
                              ("/run/elsewhere", 0o755, 0)):
        at = booted.path(path).stat()
        assert (stat.S_IMODE(at.st_mode), at.st_uid) == (mode, owner), path
    assert not booted.path("/etc/of-a").exists(), "the image is read-only: that must not keep it from starting"


def test_links_in_a_directory_of_the_services_own(booted):
    """Of root's own doing they are followed on the way; what a service puts there leads nowhere."""
    uid = pwd.getpwnam("daemon").pw_uid
    for name in ("elsewhere", "large"):
        booted.path(f"/run/{name}").mkdir()
    booted.path("/run/of-root").symlink_to("large")
    service(booted, "a", "User=daemon", "RuntimeDirectory=own own/two/three of-root/deep")
    start(booted, "a")
    assert booted.path("/run/large/deep").stat().st_uid == booted.path("/run/own/two/three").stat().st_uid == uid
    stop(booted, "a")
    # As the service could, which owns the directory: it is no matter whose that is which it moves.
    own = booted.path("/run/own")
    (own / "two").rename(own / "old")
    (own / "two").symlink_to("../elsewhere")
    start(booted, "a")
    assert list(booted.path("/run/elsewhere").iterdir()) == []


def test_directories_of_the_image(machine):
    machine.writable = ["one"]
    machine.start()
    service(machine, "a", "User=daemon", "ConfigurationDirectory=of-a")
    start(machine, "a")
    at = machine.path("/etc/of-a").stat()
    assert (stat.S_IMODE(at.st_mode), at.st_uid) == (0o755, 0)
