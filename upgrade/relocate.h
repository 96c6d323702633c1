/* SPDX-License-Identifier: MIT */
/* What one task is given in place of the directories it holds, and what gives it back its own. */
#ifndef MOLT_UPGRADE_RELOCATE_H
#define MOLT_UPGRADE_RELOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"
#include "kernel/inject.h"
#include "upgrade/holders.h"

struct relocation {
	pid_t pid, tid;
	struct inject_target *target; /* borrowed; NULL: it has ended since */
	struct inject_change *changes, *inverse;
	size_t n;
	const char *cgroup; /* of its process, relative to the tree; the holder's */
	bool jailed; /* it has a root of its own on the image */
};

/*
 * Plans a change for a holder of this task: the same directory below `new_root`. 1; 0 where the
 * task has gone; -ENOENT where it has to stay: no such directory, or out of this kernel's reach;
 * another negative errno.
 */
int relocation_add(struct relocation *t, const struct holder *h, int new_root);

/*
 * Applies them. What the task has not the permission for (fchdir(2), chroot(2) ask for it) is left
 * as it was and counted in *left; one whose root cannot be moved is left altogether, or it could
 * walk out of its jail. -EACCES: that has happened, and nothing of it has moved. 0 or another
 * negative errno with text.
 */
int relocation_apply(struct relocation *t, uint64_t deadline_usec, size_t *left, struct error *e);
/* Takes back what was applied. */
int relocation_take_back(struct relocation *t, uint64_t deadline_usec, struct error *e);
/* For relocation_take_back(): changes that are not known to be done may be. */
void relocation_assume_done(struct relocation *t);
void relocation_done(struct relocation *t); /* closes the descriptors and frees */

#endif
