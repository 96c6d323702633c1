# SPDX-License-Identifier: MIT
"""Boots of a small system, two machines side by side: each a story of how it came up and went down.

The system is only the agent and two services that make a way down hard: one ignores SIGTERM, and
one keeps writing to a file on /var. After each story the machine must be off within its deadline,
for the reason the story names, with /var and /home unmounted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from qemu import images, initramfs
from qemu.guest import Guest
from qemu.images import Image
from qemu.lab import Room, marked, write_layer
from qemu.machine import Machine

SUITE = "bookworm"
SECOND_VERSION = "12.molted"
STOP_SECONDS = 3  # that a service is given to stop
DOWN_TIMEOUT = 60.0  # for a whole way down, in a machine that shares its processor

FILES = {
    "etc/molt/init.conf": "[Boot]\nServices=agent.service stubborn.service writer.service\nGettys=no\n"
                          f"[Manager]\nDefaultTimeoutStopSec={STOP_SECONDS}\n",
    "etc/molt/system/stubborn.service": """[Unit]
Description=Does not stop when it is told
[Service]
ExecStart=/bin/sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done'
[Upgrade]
Policy=keep
""",
    "etc/molt/system/writer.service": """[Unit]
Description=Keeps a file on /var open, and ignores SIGTERM as well
[Service]
WorkingDirectory=/var
ExecStart=/bin/sh -c 'trap "" TERM; exec 3>/var/written; while echo x >&3; do sleep 0.1; done'
[Upgrade]
Policy=keep
""",
}


@dataclass
class Stage:
    """One machine and what its story needs of it."""

    vm: Machine
    guest: Guest
    image: Image


@dataclass(frozen=True)
class Story:
    """`play` ends by sending the machine down, and returns when that was asked for."""

    name: str
    play: Callable[[Stage], None]
    reason: str = "guest-shutdown"  # QEMU's word for how the machine has to end
    append: str = ""
    initrd: bool = False
    root_written: bool = False  # the root was mounted read-write: it has to be clean like the rest
    farewell: str = ""  # what the console has to say on the way down


def tell(room: Room, stories: Iterable[Story]) -> None:
    """Plays all stories, two at a time; raises what the first one that failed raised."""
    room.gather([SUITE])
    small = write_layer(room.directory / "small", FILES)
    first = room.image("first", SUITE, [small])
    second = room.image("second", SUITE, [small, marked(room.directory, SECOND_VERSION)])
    initrd = room.directory / "initrd"
    initramfs.make(room, initrd)
    todo = list(stories)
    while todo:
        pair, todo = todo[:2], todo[2:]
        _tell_together(room, first, second, initrd, pair)


def _tell_together(room: Room, first: Image, second: Image, initrd: Path,
                   stories: list[Story]) -> None:
    # Machines are started here, in the main thread, and stopped before the threads are waited for:
    # whatever interrupts, those find their machine gone and end.
    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        running = []
        for story in stories:
            own = images.copy(first, room.directory / f"{story.name}-first")
            other = images.copy(second, room.directory / f"{story.name}-second")
            append = story.append
            if story.initrd:
                append += f" root=UUID={images.uuid(own.root)}"
            vm = stack.enter_context(room.machine(
                own, other, append, initrd if story.initrd else None, story.name))
            running.append(pool.submit(_play, story, Stage(vm, Guest(vm), own)))
        for future in running:
            future.result()


def _play(story: Story, stage: Stage) -> None:
    story.play(stage)
    begin = time.monotonic()
    if story.reason == "halt":
        _wait_halted(stage)
    else:
        reason = stage.vm.wait_off(DOWN_TIMEOUT)
        assert reason == story.reason, f"{story.name}: ended by {reason}, not {story.reason}"
    took = time.monotonic() - begin
    assert took > STOP_SECONDS, f"{story.name}: nobody waited for the services: {took:.1f} s"
    said = stage.vm.console.text()
    assert story.farewell in said, f"{story.name}: the console did not say {story.farewell!r}"
    disks = {"/var": stage.image.var, "/home": stage.image.home}
    if story.root_written:
        disks["/"] = stage.image.root
    for name, disk in disks.items():
        why = images.unclean(disk)
        assert not why, f"{story.name}: {name} is not clean: {why}"


def _wait_halted(stage: Stage) -> None:
    """A halted machine is still switched on: only its console tells, and it must not come back."""
    stage.vm.console.expect("System halted", DOWN_TIMEOUT)
    assert stage.vm.running(), "the machine went off instead of halting"
