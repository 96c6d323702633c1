/* SPDX-License-Identifier: MIT */
/*
 * Mounting a device or a file where nobody sees it: in a mount namespace of the caller's own, which
 * it leaves again. What remains is one detached mount. For a child of PID 1 that does nothing else
 * at the time (one thread, unshare(2) and setns(2)); never for PID 1 itself.
 *
 * Loop devices and dm-verity are libmount's work: the former clear themselves when the last user
 * has gone (LO_FLAGS_AUTOCLEAR), the latter are removed then (deferred removal; for the moment
 * before it is in force see verity.h).
 */
#ifndef MOLT_KERNEL_MOUNT_APART_H
#define MOLT_KERNEL_MOUNT_APART_H

#include <limits.h>

#include "kernel/error.h"

struct apart_request {
	const char *source; /* a block device or a file */
	const char *fstype;
	const char *options; /* as in fstab(5) */
	const char *at; /* a directory to mount on for a moment */
};

struct apart_mount {
	int root; /* the detached mount, the caller's */
	char device[PATH_MAX]; /* it is mounted from: /dev/loop0 for a file */
};

/*
 * 0 or negative errno, that of mount(2) where it got so far. The text says what the kernel or
 * libmount had against it and not of what: the caller puts that in front of it.
 */
int mount_apart(const struct apart_request *q, struct apart_mount *ret, struct error *e);

#endif
