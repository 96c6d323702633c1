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
#include "upgrade/place.h"

/* A mount directly below the old root, and where it goes on the new one. Both are O_PATH, opened
 * before the freeze. */
struct pivot_mount {
	uint64_t id;
	char *path; /* on the old root */
	char *place; /* on the new one: the same path, as a rule (place.h) */
	int from; /* root of the mount; -1: hidden, it is opened when it is needed (uncover.h) */
	int to; /* mount point on the new root; -1: opened when it is needed */
	bool inside; /* its place is inside of another mount that is moved */
	bool elsewhere; /* it is mounted inside of another one that is moved, and not to stay there
			 */
	bool shared;
};

/* A mount that hides another one, which cannot be opened as long as it is there (uncover.h). */
struct pivot_cover {
	uint64_t id;
	char *path;
	size_t hides; /* index of the mount that it hides */
	size_t mount; /* its own index, COVER_ONLY: it is stacked on one and not among them */
};
#define COVER_ONLY SIZE_MAX

/* Where a step stands. A process that is killed in a system call makes it and cannot note that it
 * has: what has begun may have been made or not. */
enum pivot_step { STEP_NOT, STEP_BEGUN, STEP_DONE };

/* In memory that is shared with children: it outlives the one that keeps it. */
struct pivot_journal {
	uint8_t made_private, aside, attached, pivoted, stowed, settled; /* enum pivot_step */
	uint8_t moved[]; /* for each mount; and then, for each cover, whether it is aside */
};

struct pivot {
	int old_root; /* O_PATH of "/", as long as it is the root */
	int new_root; /* in the slot of its generation, where it goes back to; or a detached mount
		       */
	int slot; /* where the old root goes; -1: nowhere, and new_root is a detached mount */
	unsigned generation; /* of the new root; 0: none yet */
	struct pivot_mount *mounts; /* what lies on top comes first */
	size_t n_mounts;
	struct pivot_cover *covers; /* in the order in which they are taken away */
	size_t n_covers;
	int aside; /* a small file system for the covers that are away; -1: there are none */
	/* Called when a hidden mount was opened; may be NULL. */
	void (*uncovered)(const struct pivot *p, size_t mount);
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
 * Fills p for a pivot to new_root, the root of that generation: opens "/" and each mount below it
 * with its place on the new root; `leave` (may be NULL) is copied. pivot_done() undoes it, also
 * after a failure. A place that is missing on the new root is made if that can be written to, else
 * -ENOENT with its path in the text.
 */
struct pivot_request {
	int new_root, slot;
	unsigned generation;
	const char *leave;
};
int pivot_prepare(struct pivot *p, const struct pivot_request *q, struct error *e);

/* For a plan: what pivot_prepare() would find. Makes nothing. */
int pivot_look(struct pivot *p, int new_root, const char *leave, struct error *e);

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

/* For a pivot that another process has prepared: an empty one, a mount or a cover more (the
 * descriptor is taken over, the texts are copied), and, when it has them all,
 * the journal. 0 or negative errno. */
void pivot_init(struct pivot *p);
int pivot_add_mount(struct pivot *p, const struct pivot_mount *m);
int pivot_add_cover(struct pivot *p, const struct pivot_cover *c);
int pivot_new_journal(struct pivot *p);

/* What to say of a step that was made or not; and of one that was taken back or not, which is no
 * failure where it had only begun. */
int pivot_step(uint8_t *state, int r);
int pivot_step_back(uint8_t *state, int r);

#endif
