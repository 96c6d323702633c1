/* SPDX-License-Identifier: MIT */
/*
 * Exchanging the root of one mount namespace: the mounts below "/" are moved onto the new root, the
 * new root becomes the root, the old one goes to its slot in the vault (or, where there is no slot,
 * stays on top of the new one until pivot_settle() unmounts it). Each step is in a journal before
 * it is made and after, and pivot_undo() plays it back. The same code goes both ways: an upgrade
 * pivots to a fresh mount, a rollback to the old root in the vault. It acts on the namespace of the
 * caller: that of PID 1, or that which a child has entered (porter.h).
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
	int to; /* mount point on the new root; -1: opened when it is needed */
};

/* Where a step stands. A process that is killed in a system call makes it and cannot note that it
 * has: what has begun may have been made or not. */
enum pivot_step { STEP_NOT, STEP_BEGUN, STEP_DONE };

/* In memory that is shared with children: it outlives the one that keeps it. */
struct pivot_journal {
	uint8_t made_private, attached, pivoted, stowed, settled; /* enum pivot_step */
	uint8_t moved[]; /* for each mount */
};

struct pivot {
	int old_root; /* O_PATH of "/", as long as it is the root */
	int new_root; /* a detached mount, or one in the vault */
	int slot; /* where the old root goes; -1: nowhere */
	int new_slot; /* where new_root came from and goes back to: -1 for a detached one */
	struct pivot_mount *mounts;
	size_t n_mounts;
	char *leave; /* a mount that stays on the old root: where the new image was taken from;
			NULL: none */
	uint64_t leave_dev; /* of its file system */
	int watch; /* tells of changes of the mount table since it was read */
	uint64_t old_id; /* mount id of the old root */
	uint64_t peers, master; /* the propagation groups of the old root, 0: none */
	bool unbindable;
	bool may_make; /* a missing place is made, where the new root can be written to */
	int keeper; /* a copy of the old root in its groups, which keeps them; -1: it is in none */
	struct pivot_journal *journal;
	size_t journal_size;
};

/*
 * Fills p for a pivot to new_root: opens "/" and each mount below it with its place on the new
 * root; `leave` (may be NULL) is copied. pivot_done() undoes it, also after a failure. A place that
 * is missing on the new root is made if that can be written to, else -ENOENT with its path in the
 * text.
 */
int pivot_prepare(
	struct pivot *p, int new_root, int slot, int new_slot, const char *leave, struct error *e);

/* The same for a namespace that a child has entered, to `new_root`, a copy of main's: no slots, and
 * the same mount is left. */
int pivot_prepare_like(
	struct pivot *p, const struct pivot *main, int new_root, bool may_make, struct error *e);

/*
 * Whether what was prepared is still so; to be asked once the tree is frozen. Where the mount table
 * has changed since, prepares again. 0, or negative errno with text.
 */
int pivot_verify(struct pivot *p, struct error *e);

/* Takes the old root out of its propagation groups: before anything is moved in any namespace, so
 * that nothing of it is seen in another. Only to be followed by pivot_run() or pivot_undo(). */
int pivot_isolate(struct pivot *p, struct error *e);
/* Does it. On failure everything is as before. */
int pivot_run(struct pivot *p, struct error *e);
/* Takes back what is in the journal. */
int pivot_undo(struct pivot *p, struct error *e);

/*
 * The end of a pivot that is not taken back any more: the new root is shared if the old one was,
 * and an old root without a slot is unmounted. Its groups are the business of who knows all
 * namespaces (porter.h): with `groups` false none is made.
 */
int pivot_settle(struct pivot *p, bool groups, struct error *e);

/* Closes the descriptors and frees; the roots and slots are the caller's. */
void pivot_done(struct pivot *p);

/* For a pivot that another process has prepared: an empty one, a mount more (takes over `from`),
 * and, when it has them all, the journal. 0 or negative errno. */
void pivot_init(struct pivot *p);
int pivot_add_mount(struct pivot *p, uint64_t id, const char *path, int from, int to);
int pivot_new_journal(struct pivot *p);

/* Opens the root of a mount, O_PATH. -EEXIST: another mount is stacked on top of it. */
int open_mount(const struct mount *m, struct error *e);

/*
 * Opens the place for a mount: `path` itself, no symbolic link on the way. Followed, a link could
 * lead below another mount that is moved, and bury this one. A descriptor or negative errno with
 * text.
 */
int open_mount_point(int root, const char *path, struct error *e);

/* Whether a missing place could be made on the image at `root`. */
bool can_make_mount_point(int root);
/* Makes it, a directory or (if the mount's root is one) an empty file, and what leads to it. Opens
 * it; a descriptor or negative errno with text. */
int make_mount_point(int root, const char *path, int mount, struct error *e);

/*
 * Opens the directory (or file) that is `path` on the image at `root`, with symbolic links kept
 * inside of it. O_PATH unless `flags` say otherwise. A descriptor or negative errno.
 */
int open_in_root(int root, const char *path, uint64_t flags);

#endif
