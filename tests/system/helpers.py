# SPDX-License-Identifier: MIT
"""What the tests of services have in common: units added to a running machine, and looks at what they did."""
import os
import pathlib
import socket

from machine import wait_until

FOREVER = "/bin/sleep 1000"


def add(machine, name, text):
    """Puts NAME.service into the running machine, and whatever path `share/` names is outside too."""
    directory = machine.path("/run/molt/system")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.service").write_text(text)


def service(machine, name, *lines, start=FOREVER, unit=(), sections=""):
    add(machine, name, "\n".join(["[Unit]", *unit, "[Service]", *([f"ExecStart={start}"] if start else []),
                                  *lines, sections]) + "\n")


def script(machine, name, text, shell="/bin/sh"):
    """A program of the machine; returns its path there."""
    path = machine.share / name
    path.write_text(f"#!{shell}\n{text}\n")
    path.chmod(0o755)
    return f"/run/share/{name}"


def start(machine, name, code=0, verb="start", timeout=30):
    result = machine.initctl(verb, name, check=False, timeout=timeout)
    assert result.returncode == code, f"{verb} {name}: {result.returncode} {result.stdout}\n{machine.report()}"
    return result.stdout


def stop(machine, name, code=0, timeout=30):
    return start(machine, name, code, "stop", timeout)


def state(machine, name):
    return machine.unit(name)["state"]


def said(machine, name):
    """The log of a service."""
    try:
        return machine.path(f"/var/log/molt/{name}.log").read_text()
    except OSError:
        return ""


def wait_said(machine, name, text, timeout=10):
    return wait_until(lambda: text in said(machine, name), timeout, f"{text!r} in the log of {name}")


def wait_log(machine, text, timeout=10):
    return wait_until(lambda: text in machine.log(), timeout, f"{text!r} in init.log")


def wait_file(path, timeout=10):
    """The text of a file, once it is there and not empty."""
    path = pathlib.Path(path)
    wait_until(lambda: path.exists() and path.stat().st_size > 0, timeout, str(path))
    return path.read_text()


def outside(machine, pid):
    """Which process of the host a process of the machine is."""
    for candidate in machine.pids() + [machine.pid]:
        try:
            status = pathlib.Path(f"/proc/{candidate}/status").read_text()
        except OSError:
            continue
        inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
        if int(inside) == pid:
            return candidate
    raise AssertionError(f"no process {pid} in the machine\n{machine.report()}")


def request(machine, verb, **fields):
    """Sends a request to PID 1 and returns the socket: whoever asks later is answered later."""
    client = connect(machine)
    client.send(("@request " + verb + "\n" + "".join(f"{k}={v}\n" for k, v in fields.items()) + "\n").encode())
    return client


def down(machine, verb="poweroff"):
    """From outside: initctl is of the machine too, and may be gone before it has exited."""
    assert answer(request(machine, verb))[0] == "ok"


def connect(machine):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(machine.path("/run/molt/control")))
    client.settimeout(20)
    return client


def answer(client):
    """The result's id, and all records before it."""
    records = []
    while True:
        text = client.recv(65536).decode(errors="replace")
        if not text:
            raise AssertionError(f"no result, only {records}")
        for record in text.split("\n\n"):
            if record.startswith("@result "):
                client.close()
                return record[len("@result "):].split("\n")[0], records
            if record:
                records.append(record)


def answer_after_crash(client):
    """Its answer: a crash may leave a connection reset, which is told once, before what waits to be read."""
    try:
        return answer(client)
    except ConnectionResetError:
        return answer(client)


def cpu_usec(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")
