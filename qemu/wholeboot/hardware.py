# SPDX-License-Identifier: MIT
"""The machine: a hardware watchdog, a clock in local time, and a controller that a disk can be plugged
into while it runs."""

from __future__ import annotations

from pathlib import Path

from qemu.machine import Config, Machine
from qemu.wholeboot.root import System

# What the hardware's clock shows when it is switched on: local time of Berlin, an hour ahead of UTC.
CLOCK = "2031-01-15T12:00:00"
TO_BE_PLUGGED = "if=none,format=raw,cache=unsafe"


def machine(system: System, log: Path, append: str = "", late: bool = False) -> Machine:
    """`late`: the disk of /srv is not there yet; plug() puts it in, and that of /mnt in any case."""
    late_disk, after = system.disks.late, system.disks.after
    options = ["-device", "i6300esb", "-action", "watchdog=reset",
               "-rtc", f"base={CLOCK}",
               "-device", "virtio-scsi-pci,id=scsi", "-drive", f"file={late_disk},id=late,{TO_BE_PLUGGED}",
               "-drive", f"file={after},id=after,{TO_BE_PLUGGED}"]
    if not late:
        options += ["-device", "scsi-hd,id=late-disk,drive=late,bus=scsi.0"]
    config = Config(system.kernel, system.disks.plugged(), memory="768M", initrd=system.initrd,
                    root=f"root=UUID={system.root_uuid} rootfstype=ext4", append=append,
                    options=options)
    return Machine(config, log)


def plug(vm: Machine, disk: str) -> None:
    """`disk`: "late" or "after"."""
    vm.qmp.execute("device_add", {"driver": "scsi-hd", "id": f"{disk}-disk", "drive": disk,
                                  "bus": "scsi.0"})
