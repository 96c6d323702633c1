# SPDX-License-Identifier: MIT
"""The stages of the boot, as far as a namespace has them; the others are in the boots of QEMU."""
import pathlib
import re

import pytest
from machine import Machine

ID = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


@pytest.fixture
def boot(tmp_path):
    """Boots an image with files of the test's own; `machine-id` None: the image has none."""
    running = []

    def start(files, arguments=(), writable=(), environment=None):
        machine = Machine(tmp_path, images=("one",), arguments=("molt.debug", *arguments), writable=writable,
                          environment=environment)
        running.append(machine)
        for path, text in files.items():
            machine.images["one"].write(path, text)
        return machine.start()

    yield start
    for machine in running:
        machine.stop()


def id_of(machine):
    return machine.path("/etc/machine-id").read_text()


def covers(machine):
    return pathlib.Path(f"/proc/{machine.pid}/mounts").read_text().count(" /etc/machine-id ")


@pytest.mark.parametrize("before", ["", "uninitialized\n", "nonsense\n", "0" * 32 + "\n"])
def test_machine_id_is_written_once(boot, before):
    machine = boot({"etc/machine-id": before}, writable=("one",))
    assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n", id_of(machine)), machine.report()
    assert machine.path("/etc/machine-id").stat().st_mode & 0o777 == 0o444
    assert covers(machine) == 0


def test_machine_id_covers_that_of_a_read_only_image(boot):
    first, second = boot({"etc/machine-id": ""}), boot({"etc/machine-id": ""})
    for machine in (first, second):
        assert covers(machine) == 1 and re.fullmatch("[0-9a-f]{32}\n", id_of(machine)), machine.report()
        assert machine.run("sh", "-c", "echo x >/etc/machine-id", check=False).returncode != 0
    assert id_of(first) != id_of(second)


def test_machine_id_that_is_there_stays(boot):
    machine = boot({"etc/machine-id": ID + "\n"}, writable=("one",), environment={"container_uuid": OTHER})
    assert id_of(machine) == ID + "\n" and covers(machine) == 0


@pytest.mark.parametrize("how", ["argument", "container", "systemd"])
def test_machine_id_that_is_told(boot, how):
    told = f"{OTHER[:8]}-{OTHER[8:12]}-{OTHER[12:16]}-{OTHER[16:20]}-{OTHER[20:]}"
    arguments = {"argument": [f"molt.machine_id={told}"], "systemd": [f"systemd.machine_id={OTHER}"]}.get(how, [])
    machine = boot({"etc/machine-id": "" if how == "container" else ID + "\n"}, arguments=arguments,
                   environment={"container_uuid": told} if how == "container" else None)
    assert id_of(machine) == OTHER + "\n" and covers(machine) == 1, machine.report()


def test_nothing_of_the_host_is_touched(boot):
    """Parameters of the kernel and its modules are not a namespace's."""
    machine = boot({"etc/sysctl.d/99-test.conf": "kernel.domainname = touched\n",
                    "etc/modules-load.d/test.conf": "no_such_module\n"})
    assert machine.path("/proc/sys/kernel/domainname").read_text() != "touched\n"
    assert "the boot goes on" not in machine.log(), machine.report()
