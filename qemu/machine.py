# SPDX-License-Identifier: MIT
"""One QEMU machine: started, watched, and always gone in the end.

The machine is a PC (or another board, see qemu/board.py) with one NVMe disk whose name spaces are the images, a network card on QEMU's
user network, and two serial lines: the first is the console (qemu/console.py) and is also kept in
a file, the second is the guest's agent (qemu/guest.py). There is no boot loader, QEMU loads the
kernel itself; unless none is given: then the first disk is booted from.

A machine whose disks are virtio's alone can be saved in a file as it runs, and another one be
started from there instead of from its kernel: QEMU does not know how with an NVMe controller.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from qemu.board import BOARDS
from qemu.console import Console
from qemu.qmp import Qmp, connect

COMMAND_LINE = ("console={console} {root} ro rootwait panic=-1 "
                "loglevel=4 init=/sbin/init")
START_TIMEOUT = 30.0
SAVE_TIMEOUT = 60.0

# The ways from the host to one port of the guest end at addresses of their own, 10.0.2.15 and up,
# which the guest has to have. Several ways, because QEMU listens with a queue of one connection: of
# two clients that knock at once, one is heard a second later, when its kernel tries again. And
# addresses, because QEMU keeps a client's port number: on two ways, two clients may have the same.
FIRST_ADDRESS = 15


class MachineError(Exception):
    """The text says what was waited for, and shows the end of the console."""


@dataclass(frozen=True)
class Drive:
    """A virtio disk. Which of /dev/vda, vdb ... it is is the kernel's business: it has a serial number
    (/sys/block/vda/serial). What is not written to, several machines may have at once."""

    path: Path
    serial: str
    written: bool = False


@dataclass
class Config:
    """What to boot. The disks become /dev/nvme0n1, n2 ... in their order."""

    kernel: Path | None
    disks: list[Path]
    ports: dict[int, int] = field(default_factory=dict)  # guest port -> how many ways to it
    memory: str = "512M"
    cpus: int = 1  # more, on a machine with few, steal from each other and from the clients
    append: str = ""
    initrd: Path | None = None
    architecture: str = "amd64"
    cpu: str = ""  # another than the board's
    devices: list[str] = field(default_factory=list)  # what else is there: QEMU's -device
    root: str = "root=/dev/nvme0n1 rootfstype=ext4"
    drives: list[Drive] = field(default_factory=list)
    saved: Path | None = None  # by save(), of a machine that was like this one
    options: list[str] = field(default_factory=list)  # QEMU's own, beyond these
    resets: bool = False  # a reset boots once more; else it is the end
    shared: bool = False  # the disks: they are not written to, and several machines may have them at once
    writes: Path | None = None  # what is written to the first disk is noted there (qemu/sidebyside/writes.py)


class Machine:
    """A context manager: inside it QEMU runs, after it nothing is left but the console's log."""

    def __init__(self, config: Config, log: Path) -> None:
        self.config = config
        self.log = log  # of the console
        self.ports: dict[int, list[int]] = {}  # guest port -> ports on 127.0.0.1
        self.shutdown_reason = ""
        self._directory: Path
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Machine:
        self._directory = Path(tempfile.mkdtemp(prefix="molt-qemu-"))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Pulls the plug, if it is still in."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def wait_off(self, timeout: float) -> str:
        """Waits until the guest has gone off; returns QEMU's reason: "guest-shutdown" for a
        power-off, "guest-reset" for a reboot (which -no-reboot makes an end)."""
        assert self._process
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure(f"the machine was not off within {timeout:.0f} s") from None
        self.qmp.drain()
        for event in self.qmp.events:
            if event.get("event") == "SHUTDOWN":
                self.shutdown_reason = event.get("data", {}).get("reason", "")
        return self.shutdown_reason

    def cut_power(self) -> None:
        """The plug is pulled now: what the guest has not written to its disks is lost. Safe in any
        thread."""
        assert self._process
        self._process.kill()

    def save(self, path: Path) -> None:
        """Writes the machine as it is now to a file, without its disks; it stands still when that is
        done, until resume(). What is on its way to it from outside is lost."""
        self.qmp.execute("stop")
        unfinished = path.with_name(f".{path.name}.new")
        self.qmp.execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        self.qmp.execute("migrate", {"uri": f"exec:exec cat > {shlex.quote(str(unfinished))}"})
        deadline = time.monotonic() + SAVE_TIMEOUT
        while (state := self.qmp.execute("query-migrate"))["status"] != "completed":
            if state["status"] in ("failed", "cancelled") or time.monotonic() > deadline:
                raise self.failure(f"the machine was not saved: {state}")
            time.sleep(0.02)
        unfinished.rename(path)

    def resume(self) -> None:
        self.qmp.execute("cont")

    def press(self, *keys: str) -> None:
        """Presses keys together, by QEMU's names for them: "ctrl", "alt", "delete"."""
        self.qmp.execute("send-key", {"keys": [{"type": "qcode", "data": key} for key in keys]})

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def failure(self, text: str) -> MachineError:
        """An error with the last lines of the console, which often say why."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-25:]
        except OSError:
            lines = []
        return MachineError("\n".join([text, "the end of the console:", *lines]))

    def _start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        stderr = self._directory / "stderr"
        with stderr.open("wb") as errors:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL,
                                             stdout=subprocess.DEVNULL, stderr=errors,
                                             start_new_session=True, preexec_fn=_die_with_parent)
        try:
            self.qmp = Qmp(self._directory / "qmp", deadline)
            # Connected before the guest runs: what it says to nobody would be lost.
            self.agent = connect(self._directory / "agent", deadline)
            self.console = Console(connect(self._directory / "console", deadline), self.failure)
            self._learn_ports()
            # Asked to go on while it is being loaded, one that was saved standing still goes on doing that.
            while self.qmp.execute("query-status")["status"] == "inmigrate":
                time.sleep(0.02)
            self.resume()
        except (OSError, EOFError, TimeoutError) as error:
            said = stderr.read_text(errors="replace").strip()
            raise MachineError(f"QEMU did not start: {error}: {said}") from error

    def _command(self) -> list[str]:
        at = self._directory
        board = BOARDS[self.config.architecture]
        command_line = COMMAND_LINE.format(console=board.console, root=self.config.root)
        forward = "".join(f",hostfwd=tcp:127.0.0.1:0-10.0.2.{FIRST_ADDRESS + way}:{port}"
                          for port, ways in self.config.ports.items() for way in range(ways))
        command = [
            board.qemu, "-nodefaults", "-no-user-config", "-display", "none",
            "-M", board.machine, "-cpu", self.config.cpu or board.cpu,
            "-accel", accelerator(self.config.architecture),
            "-m", self.config.memory, "-smp", str(self.config.cpus), "-S",
            "-qmp", f"unix:{at}/qmp,server=on,wait=off",
            "-chardev", f"socket,id=console,path={at}/console,server=on,wait=off,"
                        f"logfile={self.log}",
            "-serial", "chardev:console",
            "-chardev", f"socket,id=agent,path={at}/agent,server=on,wait=off",
            *board.agent_device,
            "-netdev", f"user,id=net0,restrict=on{forward}",
            "-device", "virtio-net-pci,netdev=net0,romfile=",
        ]
        for device in self.config.devices:
            command += ["-device", device]
        if not self.config.resets:
            command += ["-no-reboot"]
        if self.config.kernel:
            command += ["-kernel", str(self.config.kernel),
                        "-append", f"{command_line} {self.config.append}".strip()]
        if self.config.initrd:
            command += ["-initrd", str(self.config.initrd)]
        if self.config.saved:
            command += ["-incoming", f"exec:exec cat {shlex.quote(str(self.config.saved))}"]
        if self.config.disks:
            command += ["-device", "nvme,id=nvme0,serial=molt"]
        # Name spaces of one controller, not controllers: those are probed side by side, and their
        # numbers are then a matter of luck.
        for number, disk in enumerate(self.config.disks, start=1):
            if number == 1 and self.config.writes:
                drive = ["-blockdev", f"driver=blklogwrites,node-name=disk1,file.driver=file,"
                                      f"file.filename={disk},file.cache.no-flush=on,"
                                      f"log.driver=file,log.filename={self.config.writes},"
                                      "log.cache.no-flush=on"]
            else:
                mode = ",readonly=on" if self.config.shared else ""
                drive = ["-drive", f"file={disk},if=none,id=disk{number},format=raw,cache=unsafe{mode}"]
            first = ",bootindex=1" if number == 1 else ""
            command += [*drive, "-device",
                        f"nvme-ns,drive=disk{number},bus=nvme0,nsid={number}{first}"]
        for drive in self.config.drives:
            mode = "" if drive.written else ",readonly=on"
            command += ["-drive", f"file={drive.path},if=none,id={drive.serial},format=raw,cache=unsafe{mode}",
                        "-device", f"virtio-blk-pci,drive={drive.serial},serial={drive.serial}"]
        return command + self.config.options

    def _learn_ports(self) -> None:
        """QEMU took any free port for each that was to be forwarded; asks which."""
        for line in self.qmp.monitor("info usernet").splitlines():
            found = re.match(r"\s*TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)",
                             line)
            if found:
                self.ports.setdefault(int(found.group(2)), []).append(int(found.group(1)))


def accelerator(architecture: str = "amd64") -> str:
    """MOLT_KVM=1 asks for KVM; it is believed only after a boot (see qemu/kvm.py), of a PC."""
    if os.environ.get("MOLT_KVM") != "1" or architecture != "amd64":
        return "tcg,thread=multi"
    from qemu import kvm
    return "kvm" if kvm.works() else "tcg,thread=multi"


def _die_with_parent() -> None:
    """In the child: QEMU must not outlive a launcher that was killed and could not clean up. The
    kernel means the thread that forked, so machines are started from the main thread."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
