/* SPDX-License-Identifier: MIT */
/*
 * The cgroups below the tree, each with a freezer flag of its own. While syscalls are run in the
 * processes of some (the affected ones), the tree is thawed and all others are held by that flag.
 *
 * Their cgroup.freeze files are opened as the list is read, so that nothing but a write(2) is left
 * to fail afterwards; and a flag that could not be set back is set later (settle.h).
 */
#ifndef MOLT_UPGRADE_LEAVES_H
#define MOLT_UPGRADE_LEAVES_H

#include <stdbool.h>
#include <stddef.h>

#include "kernel/error.h"

struct leaf {
	char *path; /* relative to the tree; "" is the tree itself */
	int flag; /* its cgroup.freeze, for writing; -1 for the tree */
	bool affected; /* runs while we inject: all its tasks are seized */
	bool frozen; /* by us, by its own flag */
	bool by_user; /* somebody froze it before us: so it is to be afterwards */
	bool lifted; /* by_user, and thawed by us meanwhile */
};

struct leaves {
	struct leaf *list;
	size_t count;
};

/* Reads the whole tree, every cgroup before the one it is in. leaves_free() also after a failure.
 */
int leaves_read(struct leaves *l, int tree, struct error *e);

/* That one and each above it: thawing one thaws what it is in. */
void leaves_mark_affected(struct leaves *l, const char *path);
/* Takes it and everything below out of what is affected. */
void leaves_spare(struct leaves *l, const struct leaf *leaf);
/* Whether `cgroup` is that leaf or below it. */
bool leaf_contains(const struct leaf *leaf, const char *cgroup);

/* Freezes what is not affected. On failure some may be frozen: leaves_release(). */
int leaves_hold(struct leaves *l, struct error *e);
/* Thaws those again. Whatever fails is told, and done later. */
void leaves_release(struct leaves *l);

/* An affected cgroup that somebody froze: its tasks are all in our hands, so it may thaw while we
 * inject. */
void leaves_lift(struct leaves *l);
void leaves_unlift(struct leaves *l);

void leaves_free(struct leaves *l);

#endif
