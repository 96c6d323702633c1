# SPDX-License-Identifier: MIT
"""The acts that the demo and the boot test play with a guest, each leaving in facts what it saw."""

from __future__ import annotations

import time

from qemu import machine
from qemu.guest import Guest
from qemu.lab import MAX_CLIENTS, NGINX, STREAM, WEB
from qemu.load import Http, Load, Streams
from qemu.machine import Machine
from qemu.progress import say, step
from qemu.report import progress_line
from qemu.upgrade import Event, upgrade
from qemu.verdict import KEPT, RENEWED, Facts

SERVICES_TIMEOUT = 60.0
FLOW_TIMEOUT = 60.0
UPGRADE_TIMEOUT = 240.0
OFF_TIMEOUT = 90.0
PAUSE = 0.05  # between two requests of a client: the machine is emulated, and must not drown


def boot(vm: Machine, facts: Facts, name: str) -> Guest:
    """Waits for a machine's services, and mounts the second image on /new."""
    begin = time.monotonic()
    facts.cpus, facts.memory = vm.config.cpus, vm.config.memory
    facts.accelerator = machine.accelerator().partition(",")[0]
    with step(f"booting {name} with molt as PID 1"):
        guest = wait_services(vm)
    facts.boot_seconds = time.monotonic() - begin
    guest.check("mount -o ro /dev/nvme0n2 /new")
    return guest


def wait_services(vm: Machine) -> Guest:
    """A machine's guest, once all its services run."""
    guest = Guest(vm)
    guest.wait_booted()
    running = " && ".join(f"initctl status {unit}" for unit in (*RENEWED, *KEPT))
    guest.wait_until(running, SERVICES_TIMEOUT, "every service runs")
    return guest


def begin_load(vm: Machine, clients: int = 3, pause: float = PAUSE) -> Load:
    """Clients of every kind for the guest's services; returns once each of them is served."""
    def http(name: str, port: int, keep: bool) -> Http:
        ways = vm.ports[port][clients:] if keep else vm.ports[port][:clients]
        return Http(name, "127.0.0.1", ways, keep, clients=clients, pause=pause)

    load = Load(
        [http("nginx, new connections", NGINX, False), http("nginx, kept connections", NGINX, True),
         http("web, new connections", WEB, False), http("web, kept connections", WEB, True)],
        [Streams("stream.service", "127.0.0.1", vm.ports[STREAM],
                 clients=MAX_CLIENTS)])
    with step("load until every client is served"):
        load.start()
        try:
            load.wait_flowing(FLOW_TIMEOUT)
        except TimeoutError:
            load.stop()
            raise
    return load


def swap(guest: Guest, facts: Facts) -> None:
    """The upgrade, with its phases told as they pass."""
    def tell(event: Event) -> None:
        line = progress_line(event)
        if line:
            say(line)

    with step("initctl upgrade /new"):
        facts.upgrade_begin = time.monotonic()
        facts.upgrade = upgrade(guest, "/new", UPGRADE_TIMEOUT, tell)
        facts.upgrade_end = time.monotonic()


def end_load(load: Load, guest: Guest, facts: Facts) -> None:
    """Stops the clients; what they saw stays."""
    facts.load = load.stop()
    facts.agent_hellos = guest.hellos


def power_off(vm: Machine, guest: Guest, facts: Facts) -> None:
    """Nobody waits for the command's end: the power-off takes the agent with it."""
    with step("powering off"):
        guest.send("initctl poweroff")
        facts.off_reason = vm.wait_off(OFF_TIMEOUT)
