/* SPDX-License-Identifier: MIT */
/* A device that a mount needs, and that is not there yet: for a child. */
#ifndef MOLT_INIT_DEVICE_WAIT_H
#define MOLT_INIT_DEVICE_WAIT_H

#include <libmount/libmount.h>
#include <stdint.h>

/*
 * Waits until the block device that a line of fstab(5) names is there: woken by what happens below
 * /dev (inotify(7)) and by the kernel (its uevents), never by the clock. x-systemd.device-timeout=
 * says how long, otherwise it is `otherwise_usec`, both from `since_usec` on. Returns at once for
 * what is no device below /dev. 0, or -ETIME.
 */
int device_await(struct libmnt_fs *fs, uint64_t since_usec, uint64_t otherwise_usec);

#endif
