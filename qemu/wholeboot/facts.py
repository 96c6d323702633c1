# SPDX-License-Identifier: MIT
"""What has to hold in a system that is up, each as a script for its shell."""

from __future__ import annotations

from qemu.wholeboot.root import WATCHDOG_SECONDS

LOG = "/run/molt/init.log"
WATCHDOG = "/sys/class/watchdog/watchdog0"

WATCHED = {
    "the watchdog is armed, with the time that init.conf says":
        f'test "$(cat {WATCHDOG}/identity)" = "i6300ESB timer" && test "$(cat {WATCHDOG}/state)" = active && '
        f'test "$(cat {WATCHDOG}/timeout)" = {WATCHDOG_SECONDS}',
    "PID 1 alone has the watchdog":
        "ls -l /proc/1/fd | grep -c ' /dev/watchdog$' | grep -qx 1",
}

UP = {
    "the file systems of fstab are mounted, with their options":
        "for m in / /var /home /srv; do grep -q \" $m rw\" /proc/self/mountinfo || exit 1; done; "
        "grep -q ' /var rw,nosuid,nodev' /proc/self/mountinfo && mountpoint /tmp",
    "swap is on, a partition by its label and a file, by their priorities":
        "awk '{ print $1, $2, $5 }' /proc/swaps >/tmp/swaps; "
        "grep -q '^/dev/nvme.* partition 5$' /tmp/swaps && grep -qx '/var/swap file 3' /tmp/swaps",
    "the parameters of sysctl.d are set":
        "test $(cat /proc/sys/vm/swappiness) = 17 && test $(cat /proc/sys/net/ipv4/conf/lo/rp_filter) = 2",
    "the modules of modules-load.d are loaded":
        "test -d /sys/module/i6300esb && test -d /sys/module/dummy",
    "sysusers.d and tmpfiles.d are done":
        'id crayfish && test "$(stat -c "%a %U" /run/crayfish)" = "750 crayfish"',
    "the host has its name, and the loopback interface is up":
        'test "$(hostname)" = whole && ip address show lo | grep -q "inet 127.0.0.1"',
    "udev runs as a service, and has made its links by its rules":
        "initctl status systemd-udevd.service && test -L /dev/lab-null && test -L /dev/disk/by-label/home && "
        "udevadm info /dev/disk/by-label/root | grep -q ID_FS_TYPE=ext4",
    "udev has loaded the driver of a device for its own sake": "test -d /sys/module/virtio_scsi",
    "a node that no driver has made loads its module, and udev's rules have given it away":
        'test "$(stat -c %a /dev/net/tun)" = 666 && : 3<>/dev/net/tun && test -d /sys/module/tun',
    "the kernel's file systems are where programs look":
        "mountpoint /dev/mqueue && mountpoint /sys/kernel/security && mountpoint /sys/kernel/debug && "
        "mountpoint /sys/fs/pstore && mountpoint /dev/pts && mountpoint /dev/shm",
    "the machine has an ID": "grep -qx '[0-9a-f]\\{32\\}' /etc/machine-id && ! grep machine-id /proc/mounts",
    "the clock is right, with the hardware's in local time":
        'case "$(date -u +%FT%T)" in 2031-01-15T11:[0-5]*) ;; *) date -u; exit 1;; esac; '
        'test "$(date +%Z)" = CET',
    "a random seed is kept for the next boot":
        'test "$(stat -c "%s %a" /var/lib/molt/random-seed)" = "64 600"',
    "the boot is in utmp and wtmp, and in Debian's wtmpdb":
        "who -b /run/utmp | grep 'system boot' && who -r /run/utmp | grep 'run-level 3' && "
        "who -b /var/log/wtmp | grep 'system boot' && last | grep '^reboot'",
    "gettys are on the console of the kernel command line and on tty1":
        "initctl status serial-getty@ttyS0.service && initctl status getty@tty1.service",
    "nobody had to step in": f"! grep -e 'root shell' -e 'the boot goes on' {LOG}",
    **WATCHED,
}

# Of the first boot alone.
REPAIRED = {
    "/var was repaired": f"grep 'the file systems of /etc/fstab had errors, which fsck has corrected' {LOG}",
    "the disk that came late was waited for, and the one that did not come no longer than it says":
        f"grep 'waiting for the device LABEL=late, [0-9]* s of 60 s' {LOG} && "
        f"grep 'the device LABEL=after has not come' {LOG} && ! mountpoint /mnt",
}

# Once that disk is there.
AFTER = {
    "it was checked and is mounted with its options, and who waited for it found it so":
        f"grep 'checking LABEL=after' {LOG} && grep 'LABEL=after has come and is mounted on /mnt' {LOG} && "
        "grep -q ' /mnt rw' /proc/self/mountinfo && test -e /mnt/archive",
}

# With a module that is needed, one after the other: which stages there are.
STAGES = ("host", "clock", "modules", "sysctl", "check-root", "root", "nodes", "devices", "await", "check",
          "mount", "swap", "stamp", "seed", "machine-id", "sysusers", "tmpfiles", "utmp")
