/* SPDX-License-Identifier: MIT */
/* /etc/fstab through libmount, in children: in order, nofail, noauto. Each of these can be done
 * again. What could not be done is said in the log. */
#ifndef MOLT_INIT_FSTAB_H
#define MOLT_INIT_FSTAB_H

#include <stdbool.h>

/* The root with the options of its line, there being none is fine; and /usr, if it is mounted: an
 * initramfs has done that then. 0 or 1. */
int fstab_remount_root(void);
/* What is local and not mounted yet. Returns 0, or 1 if something failed that was not nofail. */
int fstab_mount_all(void);
/* Swap partitions and files. 0 or 1. */
int fstab_swap_on(void);

/* Whether the line of the root has it checked, and the root is a device that can be: mounted
 * read-only, and the one of that line. */
bool fstab_checks_root(void);
/* Whether there are others that are to be checked before they are mounted. */
bool fstab_checks_others(void);

/* Exit codes of fstab_mount_late(). */
#define FSTAB_LATE_DONE 0 /* it is mounted, or nobody wants that any more */
#define FSTAB_LATE_FAILED 1
#define FSTAB_LATE_MISSING 2 /* its device is not there */
/* Checks and mounts (or swaps on) that line if its device is there by now. For a child. */
int fstab_mount_late(const char *source, const char *target);

/* Waits for the devices of all lines; 1 if one has not come in its time. For a child. */
int fstab_await_devices(void);

#endif
