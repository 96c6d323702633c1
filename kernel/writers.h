/* SPDX-License-Identifier: MIT */
/* Whether anybody writes through a mount: a question that the kernel answers at once. */
#ifndef MOLT_KERNEL_WRITERS_H
#define MOLT_KERNEL_WRITERS_H

/*
 * 0: nobody has a file of that mount open for writing or mapped shared and writable: no process, no
 * socket that a descriptor is on its way in, no io_uring. 1: somebody has, and be it a file that
 * was removed. Negative errno: it cannot be told.
 *
 * A mount cannot be made read-only while it has writers (mount_setattr(2), EBUSY), so that is
 * tried, and taken back at once: for a microsecond a file cannot be opened for writing. To be asked
 * while everything is frozen.
 */
int mount_has_writers(int mount_fd);

#endif
