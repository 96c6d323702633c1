/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets that were bound on the image since the plan, looked for once everything stands
 * still. A name is looked up only on the image's own mount, whoever bound it by whatever name:
 * behind another mount there may be somebody who is frozen and could not answer.
 */
#ifndef MOLT_UPGRADE_LISTENERS_H
#define MOLT_UPGRADE_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/unix_diag.h"
#include "upgrade/holders.h"
#include "upgrade/networks.h"

struct bound_socket {
	struct unix_bound socket;
	bool seen; /* with somebody of the tree */
	bool of_init; /* PID 1 has it, for a service */
};

struct listeners {
	bool off; /* nothing can be bound on the image, or nobody asked for it */
	uint32_t dev; /* of its file system, the kernel's number */
	int root; /* of the image; borrowed */
	struct networks networks;
	struct bound_socket *list; /* of that file system, by inode number */
	size_t count, capacity;
};

/* Before the freeze. `root`: of the image that runs. listeners_done() undoes it, also after a
 * failure. 0 or negative errno with text. */
int listeners_prepare(struct listeners *l, int tree, int root, struct error *e);

/* Frozen, before the scan: asks the kernel for all of them. 0 or negative errno with text. */
int listeners_read(struct listeners *l, struct error *e);

/*
 * In the scan. The socket of that inode number, if task `tid` has it bound on one of n mounts, and
 * *ret_image on which; else NULL.
 */
const struct bound_socket *listeners_find(struct listeners *l, uint64_t inode, pid_t tid,
	const uint64_t *mounts, unsigned n, unsigned *ret_image);
/* Whether a process of the scan is in a network name space that was not asked. */
bool listeners_missed(const struct listeners *l, pid_t pid);

/* After the scan: refuses what would not be found any more, unless its service's policy ends it.
 * 0 or -EROFS with text. */
int listeners_refuse(struct listeners *l, const struct holders *h, uint64_t mount, struct error *e);

void listeners_done(struct listeners *l);

#endif
