/* SPDX-License-Identifier: MIT */
/* The way back into the initramfs that the system came from: what dracut and mkinitcpio leave in
 * /run/initramfs can let go of what the root lies on (LVM, LUKS, RAID, network), which nobody can
 * who runs from it. */
#ifndef MOLT_INIT_INITRAMFS_EXIT_H
#define MOLT_INIT_INITRAMFS_EXIT_H

#include <stdbool.h>

#define INITRAMFS_EXIT "/run/initramfs"

/*
 * If /run/initramfs/shutdown is a program: binds /proc, /sys, /dev and /run below /run/initramfs,
 * pivots there with the root as /oldroot, and executes /shutdown with `how` (poweroff, reboot,
 * halt, kexec) as PID 1, as dracut.cmdline(7) and systemd-shutdown(8) have it. Returns if there is
 * none, or it cannot be.
 */
void initramfs_exit(const char *how);

/*
 * The program on the other side, if an initramfs of molt has left it there (initramfs_leave() in
 * initramfs.h): as PID 1, under the name "shutdown". It ends what still runs, unmounts /oldroot and
 * all below, takes apart what that lay on, says what is released and what is not, and ends the
 * system as `how` says, after a minute in any case.
 */
bool initramfs_is_shutdown(const char *program);
void initramfs_shutdown(const char *how) __attribute__((noreturn));

#endif
