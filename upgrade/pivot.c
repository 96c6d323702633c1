/* SPDX-License-Identifier: MIT */
#include "upgrade/pivot.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/uncover.h"
#include "upgrade/vault.h"

#define SETTLE_TRIES 5
#define PUT_BACK_TRIES 5

/* The steps, each with the one that takes it back */

int pivot_step(uint8_t *state, int r)
{
	*state = r < 0 ? STEP_NOT : STEP_DONE;
	return r;
}

/* What takes a step back fails where the step had only begun and was never made. */
int pivot_step_back(uint8_t *state, int r)
{
	if (r < 0 && *state != STEP_BEGUN)
		return r;
	*state = STEP_NOT;
	return 0;
}

int pivot_isolate(struct pivot *p, struct error *e)
{
	uint8_t *state = &p->journal->made_private;

	/* One that was put away may have been shared since (`mount --make-rshared /`). */
	int r = p->slot >= 0 ? mount_set_propagation(p->new_root, MS_PRIVATE) : 0;
	if (r < 0)
		return error_set(e, r, "cannot make the new root mount private");
	/* Only the roots: what is mounted below keeps its propagation. A mount cannot be moved off
	 * a shared parent, and pivot_root(2) refuses a shared root. */
	if (!p->peers)
		return 0;
	*state = STEP_BEGUN;
	r = pivot_step(state, mount_set_propagation(p->old_root, MS_PRIVATE));
	return r < 0 ? error_set(e, r, "cannot make the root mount private") : 0;
}

static int attach(struct pivot *p, struct error *e)
{
	p->journal->attached = STEP_BEGUN;
	int r = pivot_step(&p->journal->attached, mount_move(p->new_root, p->old_root));
	return r < 0 ? error_set(e, r, "cannot attach the new root") : 0;
}

static int move_one(struct pivot *p, size_t i, struct error *e)
{
	struct pivot_mount *m = &p->mounts[i];
	uint8_t *state = &p->journal->moved[i];

	if (m->to < 0)
		m->to = place_open(p, m, e);
	if (m->to < 0)
		return m->to;
	*state = STEP_BEGUN;
	int r = pivot_step(state, mount_move(m->from, m->to));
	return r < 0 ? error_set(e, r, "cannot move the mount at %s", m->path) : 0;
}

static int move_all(struct pivot *p, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_mounts; i++)
		r = move_one(p, i, e);
	return r;
}

static int pivot(struct pivot *p, struct error *e)
{
	p->journal->pivoted = STEP_BEGUN;
	int r = pivot_step(&p->journal->pivoted, mount_pivot(p->new_root));
	return r < 0 ? error_set(e, r, "cannot pivot to the new root%s",
			       r == -EINVAL
				       ? " (a root in the initramfs cannot be pivoted away from)"
				       : "")
		     : 0;
}

/* Left where pivot_root(".", ".") puts it, on top of the new root, ".." of any process would lead
 * into it: so it may be while everything is frozen, and not longer. */
static int stow(struct pivot *p, struct error *e)
{
	if (p->slot < 0)
		return 0;
	p->journal->stowed = STEP_BEGUN;
	int r = pivot_step(&p->journal->stowed, mount_move(p->old_root, p->slot));
	return r < 0 ? error_set(e, r, "cannot put the old root away") : 0;
}

int pivot_run(struct pivot *p, struct error *e)
{
	struct error undo;
	int r;

	if ((r = uncover(p, e)) == 0 && (r = attach(p, e)) == 0 && (r = move_all(p, e)) == 0 &&
		(r = pivot(p, e)) == 0 && (r = stow(p, e)) == 0)
		return 0;
	if (pivot_undo(p, &undo) < 0)
		log_error("and it could not be taken back: %s", undo.text);
	return r;
}

static int unmount_old(struct pivot *p, struct error *e)
{
	uint8_t *state = &p->journal->settled, before = *state;

	if (before == STEP_DONE)
		return 0;
	*state = STEP_BEGUN;
	int r = p->slot < 0 ? mount_detach(p->old_root) : 0;
	if (r < 0 && before != STEP_BEGUN) {
		*state = before; /* to be tried again as it was the first time */
		return error_set(e, r, "cannot unmount the old root");
	}
	*state = STEP_DONE;
	return 0;
}

int pivot_settle(struct pivot *p, bool groups, struct error *e)
{
	int r = unmount_old(p, e);

	if (r < 0)
		return r;
	unsigned long as = groups && p->peers ? MS_SHARED : p->unbindable ? MS_UNBINDABLE : 0;
	/* There is no way back from here: worth more than one try. */
	r = as ? -EAGAIN : 0;
	for (unsigned tries = 0; r < 0 && tries < SETTLE_TRIES; tries++)
		r = mount_set_propagation(p->new_root, as);
	return r < 0 ? error_set(e, r, "cannot make the new root propagate as the old one did") : 0;
}

static int unstow(struct pivot *p, struct error *e)
{
	CLEANUP_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (p->journal->stowed == STEP_NOT)
		return 0;
	if (root < 0)
		return error_set(e, errno, "cannot open /");
	int r = pivot_step_back(&p->journal->stowed, mount_move(p->old_root, root));
	return r < 0 ? error_set(e, r, "cannot bring the old root back") : 0;
}

static int unpivot(struct pivot *p, struct error *e)
{
	if (p->journal->pivoted == STEP_NOT)
		return 0;
	int r = pivot_step_back(&p->journal->pivoted, mount_pivot(p->old_root));
	return r < 0 ? error_set(e, r, "cannot pivot back to the old root") : 0;
}

static int unmove_all(struct pivot *p, struct error *e)
{
	int result = 0;

	for (size_t i = p->n_mounts; i-- > 0;) {
		struct pivot_mount *m = &p->mounts[i];
		if (p->journal->moved[i] == STEP_NOT)
			continue;
		CLEANUP_FD int back = open_in_root(p->old_root, m->path, O_PATH);
		int r = pivot_step_back(
			&p->journal->moved[i], back < 0 ? back : mount_move(m->from, back));
		if (r < 0)
			result = error_set(e, r, "cannot move the mount at %s back", m->path);
	}
	return result;
}

/* Into its slot. That could not be opened before: as long as the root was there, what one opens is
 * the root. */
static int put_back(const struct pivot *p)
{
	int r = -EIO;

	for (unsigned tries = 0; r < 0 && tries < PUT_BACK_TRIES; tries++) {
		CLEANUP_FD int slot = vault_slot(p->generation, NULL);
		r = slot < 0 ? slot : mount_move(p->new_root, slot);
	}
	return r;
}

static int detach_new(struct pivot *p, struct error *e)
{
	if (p->journal->attached == STEP_NOT)
		return 0;
	int r = pivot_step_back(
		&p->journal->attached, p->slot >= 0 ? put_back(p) : mount_detach(p->new_root));
	return r < 0 ? error_set(e, r, "cannot put the new root away") : 0;
}

static int rejoin_groups(struct pivot *p, struct error *e)
{
	if (p->journal->made_private == STEP_NOT)
		return 0;
	int r = mount_join_groups(p->keeper, p->old_root);
	/* Before Linux 5.15: into a group of its own, rather than into none. */
	if (r < 0 && p->journal->made_private == STEP_DONE)
		r = mount_set_propagation(p->old_root, MS_SHARED);
	r = pivot_step_back(&p->journal->made_private, r);
	return r < 0 ? error_set(e, r, "cannot put the root back into its propagation groups") : 0;
}

int pivot_undo(struct pivot *p, struct error *e)
{
	int r = unstow(p, e), last;

	if (r == 0)
		r = unpivot(p, e);
	/* The new root stands on top of the old one again, with the mounts on it. */
	if (r == 0)
		r = unmove_all(p, e);
	if (p->journal->pivoted == STEP_NOT && (last = detach_new(p, e)) < 0)
		r = r ? r : last;
	if (p->journal->pivoted == STEP_NOT && (last = uncover_undo(p, e)) < 0)
		r = r ? r : last;
	if ((last = rejoin_groups(p, e)) < 0)
		r = r ? r : last;
	return r;
}
