#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A TCP server that keeps its connections when its program is exchanged, with nothing but Python's library.

Each line that a client sends comes back with its number in that connection. The lines "hold" and
"release" stand for work that must not be disturbed: as long as a client holds, upgrades are refused.
"""
import json
import os
import selectors
import socket
import sys

PROGRAM = "/usr/bin/molt-echo.py"
STATE_VARIABLE = "ECHO_STATE_FD"


class MoltClient:
    """The upgrade handshake over $MOLT_FD, and sd_notify(3): copy it into your daemon."""

    def __init__(self):
        self.socket = None
        self.deadline = None
        if "MOLT_FD" in os.environ:
            self.socket = socket.socket(fileno=int(os.environ["MOLT_FD"]))
            self.socket.setblocking(False)
            os.set_inheritable(self.socket.fileno(), False)

    def receive(self):
        """("PREPARE", "REEXEC", "ABORT" or "COMMIT", {"generation": "7", ...}); None: nothing is there."""
        try:
            packet = self.socket.recv(1024).decode()
        except BlockingIOError:
            return None
        if not packet:
            raise ConnectionResetError("PID 1 has closed its end of $MOLT_FD")
        word, *pairs = packet.split()
        fields = dict(pair.split("=", 1) for pair in pairs)
        self.deadline = fields.get("deadline_usec")
        return word, fields

    def prepared(self):
        self.socket.send(f"PREPARED=1 deadline_usec={self.deadline}".encode())

    def refuse(self, reason):
        line = " ".join(reason.split())[:200]
        self.socket.send((f"REFUSED={line}" + (f"\ndeadline_usec={self.deadline}" if self.deadline else "")).encode())

    def reexec(self, argv, keep):
        """Executes argv[0], which has the descriptors in `keep`; returns only if it failed."""
        passed = [*keep, *listen_fds(), *([self.socket.fileno()] if self.socket else [])]
        before = {fd: os.get_inheritable(fd) for fd in passed}
        try:
            for fd in passed:
                os.set_inheritable(fd, True)
            os.execv(argv[0], argv)
        except OSError as error:
            for fd, inheritable in before.items():
                os.set_inheritable(fd, inheritable)
            self.refuse(f"cannot execute {argv[0]}: {error.strerror}")


def notify(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect("\0" + path[1:] if path[0] == "@" else path)
            s.send(text.encode())


def listen_fds():
    """sd_listen_fds(3)"""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    return list(range(3, 3 + int(os.environ.get("LISTEN_FDS", "0"))))


class Connection:
    """What must outlive the program is `lines`, `rest` and `holds`; and the socket."""

    def __init__(self, sock, lines=0, rest=b"", holds=False):
        self.socket, self.lines, self.rest, self.holds = sock, lines, rest, holds
        os.set_inheritable(sock.fileno(), False)
        sock.settimeout(5)  # who does not read what it is sent must not hold up the others

    def serve(self):
        """False once it is closed."""
        try:
            data = self.socket.recv(4096)
            self.rest += data
            while b"\n" in self.rest:
                line, _, self.rest = self.rest.partition(b"\n")
                self.lines += 1
                self.holds = line == b"hold" or (self.holds and line != b"release")
                self.socket.sendall(b"%d %s\n" % (self.lines, line))
        except OSError:
            return False
        return bool(data)

    def save(self):
        return {"fd": self.socket.fileno(), "lines": self.lines, "rest": self.rest.hex(), "holds": self.holds}


class Server:
    def __init__(self):
        if not listen_fds():
            sys.exit("molt-echo.py: no socket was passed ($LISTEN_FDS)")
        self.selector = selectors.DefaultSelector()
        self.connections = []
        self.listener = socket.socket(fileno=listen_fds()[0])
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.molt = MoltClient()
        if self.molt.socket:
            self.selector.register(self.molt.socket, selectors.EVENT_READ, self.hear)

    def add(self, connection):
        self.connections.append(connection)
        self.selector.register(connection.socket, selectors.EVENT_READ, lambda: self.serve(connection))

    def accept(self):
        self.add(Connection(self.listener.accept()[0]))

    def serve(self, connection):
        if not connection.serve():
            self.selector.unregister(connection.socket)
            connection.socket.close()
            self.connections.remove(connection)

    def hear(self):
        try:
            message = self.molt.receive()
        except ConnectionResetError:
            self.selector.unregister(self.molt.socket)
            return
        if message is None:
            return
        word, _ = message
        if word == "PREPARE" and any(c.holds for c in self.connections):
            self.molt.refuse("a client asked to hold")
        elif word == "PREPARE":
            self.molt.prepared()
        elif word == "REEXEC":
            self.become_the_new_program()

    def become_the_new_program(self):
        fd = os.memfd_create("molt-echo.py")
        os.write(fd, json.dumps([c.save() for c in self.connections]).encode())
        os.environ[STATE_VARIABLE] = str(fd)
        self.molt.reexec([PROGRAM, *sys.argv[1:]], [fd, *(c.socket.fileno() for c in self.connections)])
        del os.environ[STATE_VARIABLE]
        os.close(fd)

    def take_up(self):
        """What the program before has written down; nothing if this is a start."""
        if STATE_VARIABLE not in os.environ:
            return
        with os.fdopen(int(os.environ.pop(STATE_VARIABLE)), "rb") as state:
            state.seek(0)
            for c in json.load(state):
                self.add(Connection(socket.socket(fileno=c["fd"]), c["lines"], bytes.fromhex(c["rest"]), c["holds"]))

    def run(self):
        self.take_up()
        notify("READY=1\nSTATUS=serving")
        while True:
            for key, _ in self.selector.select():
                key.data()


if __name__ == "__main__":
    Server().run()
