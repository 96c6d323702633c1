/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets that are bound to a file, of the caller's network name space: sock_diag(7). The
 * module is loaded by the kernel when first asked for.
 */
#ifndef MOLT_KERNEL_UNIX_DIAG_H
#define MOLT_KERNEL_UNIX_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unix_bound {
	uint32_t inode; /* of the socket: what /proc/PID/fd shows */
	uint32_t dev; /* of the file system of the file, the kernel's number: kernel_dev() */
	uint32_t ino; /* the lower half of the file's inode number */
	bool reachable; /* a client that connects or sends to the name comes to this socket */
	char name[112]; /* as it was bound: relative names are as they were given */
};

/* A netlink socket of the caller's network name space, or negative errno. */
int unix_diag_open(void);

/*
 * Calls `visit` for each; stops at the first non-zero return and gives it back. 0 or negative errno
 * (-ENOENT: this kernel has no unix_diag). Does not block.
 */
int unix_diag_bound(
	int fd, int (*visit)(const struct unix_bound *socket, void *userdata), void *userdata);

struct nlmsghdr;
/* One message of an answer. 1 and *ret: a socket bound to a file; 0: another; -EBADMSG. */
int unix_diag_parse(const struct nlmsghdr *message, struct unix_bound *ret);

#endif
