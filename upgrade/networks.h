/* SPDX-License-Identifier: MIT */
/*
 * The network name spaces of the tree, each with a socket to ask for its unix sockets: sock_diag(7)
 * tells only of the name space that its own socket was made in. PID 1 enters none: a child makes
 * the sockets and hands them over.
 */
#ifndef MOLT_UPGRADE_NETWORKS_H
#define MOLT_UPGRADE_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

struct network {
	uint64_t id; /* inode number of /proc/PID/ns/net */
	int fd; /* keeps it alive; -1: PID 1's own */
	int diag; /* unix_diag_open() in it; -1: nobody may look into it */
};

struct networks {
	struct network *list; /* PID 1's own is the first */
	size_t count;
};

/* Before the freeze. Waits for the child, seconds at most; there is none if nobody has a name space
 * of its own. networks_done() undoes it, also after a failure. 0 or negative errno with text. */
int networks_find(struct networks *n, int tree, struct error *e);
/* Whether a process is in one that is not known; one that has ended is in none. */
bool networks_is_new(const struct networks *n, pid_t pid);
void networks_done(struct networks *n);

#endif
