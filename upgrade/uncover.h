/* SPDX-License-Identifier: MIT */
/*
 * Mounts that others hide: stacked ones, of which a path leads to the uppermost only, and those
 * below a directory that something was mounted over later. No system call opens such a mount. So
 * while everything is frozen what hides it is moved aside, the mount is opened, and all is put back
 * as it was: with its descriptor it is moved like any other, and what is stacked on it comes along.
 * For the pivot (pivot.h) alone; the steps are in its journal.
 */
#ifndef MOLT_UPGRADE_UNCOVER_H
#define MOLT_UPGRADE_UNCOVER_H

#include "kernel/error.h"
#include "kernel/mounts.h"
#include "upgrade/pivot.h"

/*
 * Finds out what has to be moved aside for each mount that has no descriptor. 0, or negative errno
 * with text: it cannot be, since a mount cannot be moved off a shared one.
 */
int uncover_plan(struct pivot *p, const struct mount_table *t, struct error *e);
/* Makes the place where they are put meanwhile, if there is anything to be put there. */
int uncover_prepare(struct pivot *p, struct error *e);

/* In the blackout, when the old root is private: opens the hidden mounts. Whatever it returns, the
 * mounts stand where they stood, or uncover_undo() puts them there. */
int uncover(struct pivot *p, struct error *e);
/* Takes back what is in the journal. */
int uncover_undo(struct pivot *p, struct error *e);

#endif
