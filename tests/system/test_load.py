# SPDX-License-Identifier: MIT
"""Twenty upgrades under load: no request fails, no stream is cut, and how long anybody had to wait.

The measure beside it is nginx's own way of exchanging its program (USR2, then QUIT), with the same load, without molt.
"""
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
from load_inside import LoadInside
from machine import BUILD, wait_until
from outside import assert_thawed, last_word, stragglers
from test_rollback import WEB, stands_on

pytestmark = pytest.mark.timeout(180)

UPGRADES = int(os.environ.get("MOLT_TEST_LOAD", "20"))
PAUSE = 0.001
BEAT_MSEC = 5

NGINX = """pid {pid};
error_log {directory}/error.log;
worker_processes 2;
events {{ worker_connections 256; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello\\n"; }} }}
}}
"""

# Debian's own nginx.service as it is, and how nginx exchanges its program.
NGINX_DROP_IN = """[Upgrade]
Policy=reexec
ReexecSignal=USR2
ReexecFinishSignal=QUIT
"""


def load_on(nginx, web, stream):
    return {"http": clients("nginx", nginx) + clients("web", web),
            "streams": [{"name": "stream", "port": stream, "clients": 4}]}


def clients(name, port):
    return [{"name": f"{name}, new", "port": port, "keep_alive": False, "pause": PAUSE},
            {"name": f"{name}, kept", "port": port, "keep_alive": True, "pause": PAUSE}]


def milliseconds(load, *names):
    return max(load.group(name)["longest_gap"] for name in names) * 1000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class PlainServers:
    """The same servers without molt; nginx exchanges its program by itself."""

    def __init__(self, directory):
        self.directory, self.ports = directory, (free_port(), free_port(), free_port())
        self.pid_file = directory / "nginx.pid"
        (directory / "nginx.conf").write_text(NGINX.format(pid=self.pid_file, directory=directory,
                                                           port=self.ports[0]))
        # In the background: in the foreground it would not take USR2.
        subprocess.run(["/usr/sbin/nginx", "-p", directory, "-c", directory / "nginx.conf"], check=True)
        self.others = [subprocess.Popen([BUILD / "tools/web", str(self.ports[1])]),
                       subprocess.Popen([BUILD / "tools/stream", str(self.ports[2]), str(BEAT_MSEC)])]
        wait_until(self.master, what="nginx")

    def master(self):
        try:
            return int(self.pid_file.read_text())
        except (OSError, ValueError):
            return 0

    def exchange(self):
        old = self.master()
        os.kill(old, signal.SIGUSR2)
        new = wait_until(lambda: self.master() not in (0, old) and self.master(), what="the new master")
        wait_until(lambda: pathlib.Path(f"/proc/{new}/task/{new}/children").read_text(), what="its workers")
        os.kill(old, signal.SIGQUIT)
        wait_until(lambda: not alive(old), what="the end of the old master")

    def stop(self):
        master = self.master()
        os.kill(master, signal.SIGTERM)
        for process in self.others:
            process.kill()
            process.wait(10)
        wait_until(lambda: not alive(master), what="the end of nginx")


def alive(pid):
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def measure_without_molt(directory):
    """The same load on the same servers: while nginx exchanges its program, and for as long while nothing happens."""
    servers = PlainServers(directory)
    try:
        with LoadInside(None, **load_on(*servers.ports)) as exchanges:
            for _ in range(UPGRADES):
                servers.exchange()
        with LoadInside(None, **load_on(*servers.ports)) as calm:
            over = time.monotonic() + exchanges.stats["seconds"]
            wait_until(lambda: time.monotonic() > over, 60)
    finally:
        servers.stop()
    assert exchanges.stats["failed"] == 0, exchanges.stats
    return exchanges, calm


def lay_out(machine):
    for image in machine.images.values():
        image.conf(services=["nginx.service", "web.service", "stream.service"])
        image.write("etc/nginx/nginx.conf", NGINX.format(pid="/run/nginx.pid", directory="/run", port=80))
        image.write("etc/molt/system/nginx.service.d/upgrade.conf", NGINX_DROP_IN)
        image.copy(BUILD / "tools/web", "usr/bin/web")
        image.copy(BUILD / "tools/stream", "usr/bin/stream")
        # A file of its own on each image: what is common to both would tell nothing.
        image.copy("/usr/sbin/nginx", "usr/sbin/nginx")
        image.service("web", WEB.replace("ReadyTimeoutSec=500ms\n", ""))
        image.service("stream", f"[Service]\nExecStart=/usr/bin/stream 9000 {BEAT_MSEC}\n[Upgrade]\nPolicy=keep\n")


def upgrade_many(machine):
    blackouts = []
    for number in range(UPGRADES):
        _, told = machine.upgrade(("two", "one")[number % 2])
        assert last_word(told) == "committed"
        blackouts += [e["usec"] for e in told if e["event"] == "blackout"]
    return blackouts


def table(plain, calm, load, blackouts):
    http = ("nginx, new", "nginx, kept"), ("web, new", "web, kept"), ("stream",)
    rows = [f"{UPGRADES} upgrades under load: {load.stats['requests']} requests, {load.stats['failed']} failed; "
            f"blackout {sorted(blackouts)[len(blackouts) // 2] / 1000:.1f} ms (median), "
            f"{max(blackouts) / 1000:.1f} ms (longest)",
            f"{'longest gap that a client saw, ms':<44}{'nginx':>8}{'web':>8}{'stream':>8}"]
    for what, measured in ((f"{UPGRADES} upgrades (reexec, handover, keep)", load),
                           (f"nginx's own USR2, {UPGRADES} times, no molt", plain), ("nothing happens, no molt", calm)):
        rows.append(f"{what:<44}" + "".join(f"{milliseconds(measured, *names):>8.1f}" for names in http))
    return "\n".join(rows) + "\n"


@pytest.mark.alone
def test_nobody_notices(machine, tmp_path, capfd):
    plain, calm = measure_without_molt(tmp_path)
    lay_out(machine)
    machine.start()
    for name in ("nginx", "web", "stream"):
        machine.wait_state(name)
    stream = machine.unit("stream")["main_pid"]
    with LoadInside(machine, **load_on(80, 8080, 9000)) as load:
        blackouts = upgrade_many(machine)
    assert machine.unit("stream")["main_pid"] == stream
    text = table(plain, calm, load, blackouts)
    (BUILD / "report").mkdir(exist_ok=True)
    (BUILD / "report/load.txt").write_text(text)
    with capfd.disabled():
        print("\n" + text, end="")
    assert load.stats["failed"] == 0, f"{load.stats['problems']}\n{machine.report()}"
    assert load.group("stream")["still_open"] == 4
    assert load.group("nginx, new")["ok"] > UPGRADES * 10 and load.group("web, kept")["ok"] > UPGRADES * 10
    assert stragglers(machine) == []
    stands_on_both(machine)
    assert_thawed(machine)


def stands_on_both(machine):
    stands_on(machine, "web")
    wait_until(lambda: {machine.mount_id(pid, "exe") for pid in machine.service_pids("nginx")}
               == {machine.mount_id(machine.pid)}, what="nginx on the root's image")
