# SPDX-License-Identifier: MIT
"""The boot, whole: a Debian 13 with its own udevd, agetty, sulogin, fsck and kexec, and molt as PID 1."""
