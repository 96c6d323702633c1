/* SPDX-License-Identifier: MIT */
/* The way back into the initramfs that the system came from: what dracut and mkinitcpio leave in
 * /run/initramfs can let go of what the root lies on (LVM, LUKS, RAID, network), which nobody can
 * who runs from it. */
#ifndef MOLT_INIT_INITRAMFS_EXIT_H
#define MOLT_INIT_INITRAMFS_EXIT_H

/*
 * If /run/initramfs/shutdown is a program: binds /proc, /sys, /dev and /run below /run/initramfs,
 * pivots there with the root as /oldroot, and executes /shutdown with `how` (poweroff, reboot,
 * halt, kexec) as PID 1, as dracut.cmdline(7) and systemd-shutdown(8) have it. Returns if there is
 * none, or it cannot be.
 */
void initramfs_exit(const char *how);

#endif
