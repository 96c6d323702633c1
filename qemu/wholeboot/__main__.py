# SPDX-License-Identifier: MIT
"""make boots"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qemu import child
from qemu.deps import MissingPackages
from qemu.machine import MachineError
from qemu.packages import PackageError
from qemu.progress import say
from qemu.wholeboot.boots import whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="qemu.wholeboot", description="The boot of a Debian, whole.")
    parser.add_argument("--build", type=Path, default=Path("build"))
    options = parser.parse_args()
    child.exit_on_signals()
    log = options.build / "wholeboot"
    try:
        whole(options.build, log)
    except (AssertionError, MachineError, TimeoutError) as error:
        print(error)
        return 1
    except (MissingPackages, PackageError, RuntimeError) as error:
        sys.exit(f"wholeboot: {error}")
    print((log / "blame.txt").read_text(), end="")
    say("PASSED  a Debian 13 with its own udevd, agetty, sulogin, fsck and kexec under molt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
