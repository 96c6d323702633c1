/* SPDX-License-Identifier: MIT */
/*
 * Putting copies of files below a root so that either all of them are there, whole, or none: each
 * is copied to a temporary beside its place, and when all are, each is renamed into it. Directories
 * on the way that are missing are made like those of the running system.
 */
#ifndef MOLT_UPGRADE_STAGE_H
#define MOLT_UPGRADE_STAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "kernel/copy.h"

/* Whether that is what a temporary is called: it may have been left by somebody who was killed. */
bool stage_is_temporary(const char *name);

struct stage {
	int from, root; /* the running root and the one to copy to; borrowed */
	struct copy_budget budget;
	struct staged {
		char *path;
		char name[32]; /* of the temporary */
	} * list;
	size_t count;
	char **made; /* directories that were missing */
	size_t n_made;
};

/* Copies `path` of the one root to a temporary below the other. 0 or negative errno with text. */
int stage_add(struct stage *s, const char *path, struct error *e);
/* Renames them all into place and syncs. */
int stage_place(struct stage *s, struct error *e);
/* Removes what was not placed, and the directories that were made for it; frees. */
void stage_undo(struct stage *s);
/* Frees. */
void stage_done(struct stage *s);

#endif
