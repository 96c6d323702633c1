/* SPDX-License-Identifier: MIT */
/*
 * Exchanging the root: the mounts below "/" are moved onto the new root, the new root becomes the
 * root, the old one goes to its slot in the vault. Each step that was taken is in a journal, and
 * pivot_undo() plays it back. The same code goes both ways: an upgrade pivots to a fresh mount, a
 * rollback to the old root in the vault.
 */
#ifndef MOLT_UPGRADE_PIVOT_H
#define MOLT_UPGRADE_PIVOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/error.h"
#include "kernel/mounts.h"

/* A mount directly below the old root, and where it goes on the new one. Both are O_PATH, opened
 * before the freeze. */
struct pivot_mount {
	uint64_t id;
	char *path;
	int from; /* root of the mount */
	int to; /* mount point on the new root */
	bool moved;
};

struct pivot {
	int old_root; /* O_PATH of "/", as long as it is the root */
	int new_root; /* a detached mount, or one in the vault */
	int slot; /* where the old root goes */
	int new_slot; /* where new_root came from and goes back to: -1 for a detached one */
	struct pivot_mount *mounts;
	size_t n_mounts;
	char *leave; /* a mount that stays on the old root: where the new image was taken from;
			NULL: none */
	int watch; /* tells of changes of the mount table since it was read */
	bool old_shared;
	/* the journal */
	bool old_made_private, attached, pivoted, stowed;
};

/*
 * Fills p for a pivot to new_root: opens "/" and each mount below it with its place on the new
 * root; `leave` (may be NULL) is copied. pivot_done() undoes it, also after a failure. A place that
 * is missing on the new root is -ENOENT with its path in the text.
 */
int pivot_prepare(
	struct pivot *p, int new_root, int slot, int new_slot, const char *leave, struct error *e);

/*
 * Whether what was prepared is still so; to be asked once the tree is frozen. Where the mount table
 * has changed since, prepares again. 0, or negative errno with text.
 */
int pivot_verify(struct pivot *p, struct error *e);

/* Does it. On failure everything is as before. */
int pivot_run(struct pivot *p, struct error *e);
/* Takes back a pivot_run() that succeeded. */
int pivot_undo(struct pivot *p, struct error *e);
/* Closes the descriptors and frees; the roots and slots are the caller's. */
void pivot_done(struct pivot *p);

/* Opens the root of a mount, O_PATH. -EEXIST: another mount is stacked on top of it. */
int open_mount(const struct mount *m, struct error *e);

/*
 * Opens the place for a mount: `path` itself, no symbolic link on the way. Followed, a link could
 * lead below another mount that is moved, and bury this one. A descriptor or negative errno with
 * text.
 */
int open_mount_point(int root, const char *path, struct error *e);

/*
 * Opens the directory (or file) that is `path` on the image at `root`, with symbolic links kept
 * inside of it. O_PATH unless `flags` say otherwise. A descriptor or negative errno.
 */
int open_in_root(int root, const char *path, uint64_t flags);

#endif
