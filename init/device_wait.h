/* SPDX-License-Identifier: MIT */
/* A device that a mount needs, and that is not there yet: for a child. */
#ifndef MOLT_INIT_DEVICE_WAIT_H
#define MOLT_INIT_DEVICE_WAIT_H

#include <libmount/libmount.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Waits until the block device that a line of fstab(5) names is there: woken by what happens below
 * /dev (inotify(7)) and by the kernel (its uevents), never by the clock. x-systemd.device-timeout=
 * says how long, otherwise it is `otherwise_usec`, both from `since_usec` on. Returns at once for
 * what is no device below /dev. 0, or -ETIME.
 */
int device_await(struct libmnt_fs *fs, uint64_t since_usec, uint64_t otherwise_usec);

/*
 * Whether what the line names is there to be mounted: true for what is no device below /dev. Where
 * udev runs it has to be done with it: of a btrfs on several disks it knows when all are there
 * (SYSTEMD_READY=). For a child: without udev libblkid reads disks.
 */
bool device_is_ready(struct libmnt_fs *fs);

/* The pieces, for who waits in a loop of events. */

/* All directories that lead to what `source` ("/dev/sdb1", "UUID=...") names: each of them may be
 * what comes next. To be said again after each event. */
void device_watch_way(int inotify, const char *source);
/* The kernel's uevents and udev's. A descriptor that does not block, or -1 and errno. */
int device_open_uevents(void);

#endif
