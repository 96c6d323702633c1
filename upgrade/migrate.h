/* SPDX-License-Identifier: MIT */
/*
 * What pivot_root(2) does not re-point: directories below the old root that processes of the frozen
 * tree stand in or hold open. Each is replaced by the same directory of the new image, by syscalls
 * run in the process itself (kernel/inject.h).
 *
 * An injected syscall runs only in a thawed cgroup. So all tasks of the cgroups concerned (and of
 * those above them, which would thaw along) are seized, every other cgroup is frozen by its own
 * flag, and only then the tree is thawed: the seized tasks stand still as well, in their tracer's
 * hands.
 */
#ifndef MOLT_UPGRADE_MIGRATE_H
#define MOLT_UPGRADE_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/error.h"
#include "kernel/util.h"
#include "upgrade/holders.h"

/* How long a task may take to answer when what was done is taken back, on top of the blackout's own
 * time: a longer blackout is better than a process on two images at once. */
#define MIGRATION_UNDO_USEC (2 * USEC_PER_SEC)

struct migration; /* opaque */

/*
 * Works out the changes for the holders of a frozen tree: opens each directory on the new root,
 * new_roots[holder.image].
 * What has no counterpart there, or is no directory, is left as it is. `flag` is the tree's
 * cgroup.freeze. *ret is the caller's,
 * migration_free().
 */
int migration_plan(struct migration **ret, const struct holders *h, const int *new_roots, int tree,
	int flag, struct error *e);

/* Seizes all tasks that will have to stand still. -EBUSY: one is in the middle of vfork(2); worth
 * another try after a thaw. */
int migration_seize(struct migration *m, uint64_t deadline_usec, struct error *e);

/*
 * Thaws the tree as described and applies the changes; what a task has no permission for is left.
 * On failure those done are taken back, the tree is frozen again and nobody has run. On success
 * everybody migrated stands still until migration_free().
 */
int migration_run(struct migration *m, uint64_t deadline_usec, struct error *e);

/* After a crash in migration_run(): takes back what was done and freezes the tree again. */
void migration_abandon(struct migration *m);

/* For the report: how many tasks are given something else; how many references stay on the old
 * image. */
size_t migration_tasks(const struct migration *m);
size_t migration_left(const struct migration *m);

/* Lets the tasks go and thaws what it froze; frees. NULL is fine. */
void migration_free(struct migration *m);

#endif
