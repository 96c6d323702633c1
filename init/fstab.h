/* SPDX-License-Identifier: MIT */
/* /etc/fstab through libmount, in a child: in order, nofail, noauto, swap, the remount of /. */
#ifndef MOLT_INIT_FSTAB_H
#define MOLT_INIT_FSTAB_H

/* Mounts all; says on stderr and in the log what could not be. Returns 0, or 1 if something failed
 * that was not nofail. */
int fstab_mount_all(void);

#endif
