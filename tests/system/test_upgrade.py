# SPDX-License-Identifier: MIT
"""The transaction, end to end: what must be on the other image afterwards, and what must not be disturbed."""
from machine import wait_until

SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n"


def test_boot_and_status(machine):
    for image in machine.images.values():
        image.conf(services=["a.service"])
        image.service("a", SLEEPER)
    machine.start()
    machine.wait_state("a")
    assert machine.image() == "one"


def test_upgrade_changes_the_root(machine):
    for image in machine.images.values():
        image.conf(services=["a.service"])
        image.service("a", SLEEPER)
    machine.start()
    main = machine.wait_state("a")["main_pid"]
    code, events = machine.upgrade("two")
    assert code == 0
    assert events[-1]["text"] == "committed", events
    assert machine.image() == "two"
    assert machine.unit("a")["main_pid"] == main
