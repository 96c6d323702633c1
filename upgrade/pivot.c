/* SPDX-License-Identifier: MIT */
#include "upgrade/pivot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/grafts.h"
#include "upgrade/sides.h"

#define SETTLE_TRIES 5

int open_in_root(int root, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};

	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	return fd < 0 ? -errno : fd;
}

int open_mount_point(int root, const char *path, struct error *e)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	if (fd >= 0)
		return fd;
	if (errno == ELOOP)
		return error_say(e, ELOOP,
			"the image has a symbolic link where the mount at %s is to go (it has to be a directory)",
			path);
	if (errno == ENOENT)
		return error_set(e, ENOENT,
			"the image has no place for the mount at %s (make that directory in it)",
			path);
	return error_set(e, errno, "cannot open the place for the mount at %s in the image", path);
}

int pivot_add_mount(struct pivot *p, uint64_t id, const char *path, int from, int to)
{
	struct pivot_mount *grown = reallocarray(p->mounts, p->n_mounts + 1, sizeof(*grown));
	char *copy = strdup(path);

	if (grown)
		p->mounts = grown;
	if (!grown || !copy) {
		free(copy);
		(void)fd_close(from);
		(void)fd_close(to);
		return -ENOMEM;
	}
	p->mounts[p->n_mounts++] =
		(struct pivot_mount){.id = id, .path = copy, .from = from, .to = to};
	return 0;
}

static void drop_journal(struct pivot *p)
{
	if (p->journal)
		(void)munmap(p->journal, p->journal_size);
	p->journal = NULL;
}

int pivot_new_journal(struct pivot *p)
{
	size_t size = sizeof(*p->journal) + p->n_mounts;

	drop_journal(p);
	p->journal = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	p->journal_size = size;
	if (p->journal != MAP_FAILED)
		return 0;
	p->journal = NULL;
	return -errno;
}

static void drop_mounts(struct pivot *p)
{
	for (size_t i = 0; i < p->n_mounts; i++) {
		(void)fd_close(p->mounts[i].from);
		(void)fd_close(p->mounts[i].to);
		free(p->mounts[i].path);
	}
	free(p->mounts);
	p->mounts = NULL;
	p->n_mounts = 0;
}

/* The mount at its target, and not another one stacked on top of it. */
int open_mount(const struct mount *m, struct error *e)
{
	CLEANUP_FD int fd = open(m->target, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	uint64_t id;

	if (fd < 0)
		return error_set(e, errno, "cannot open the mount at %s", m->target);
	int r = mount_id_of_fd(fd, &id);
	if (r < 0)
		return error_set(e, r, "cannot identify the mount at %s", m->target);
	if (id != m->id)
		return error_say(e, EEXIST,
			"cannot move the mount at %s: another one is stacked on top of it (unmount one)",
			m->target);
	return fd_steal(&fd);
}

static int prepare_mount(struct pivot *p, const struct mount *m, struct error *e)
{
	CLEANUP_FD int from = open_mount(m, e);
	if (from < 0)
		return from;
	CLEANUP_FD int to = open_mount_point(p->new_root, m->target, e);
	bool make = to == -ENOENT && can_make_mount_point(p->new_root);
	if (make && p->may_make)
		to = make_mount_point(p->new_root, m->target, from, e);
	if (to < 0 && !(make && !p->may_make))
		return to;
	int r = pivot_add_mount(p, m->id, m->target, fd_steal(&from), to < 0 ? -1 : fd_steal(&to));
	return r < 0 ? error_set(e, r, "cannot plan the move of %s", m->target) : 0;
}

/* The same path may be another mount in another namespace. */
static bool is_left(const struct pivot *p, const struct mount *m)
{
	if (grafts_has(sides.current.generation, m->target, m->dev))
		return true;
	return p->leave && strcmp(p->leave, m->target) == 0 &&
	       (!p->leave_dev || p->leave_dev == m->dev);
}

/* A mount that is alone in its groups would lose them as soon as it leaves them. */
static int keep_groups(struct pivot *p, struct error *e)
{
	p->keeper = fd_close(p->keeper);
	if (!p->peers)
		return 0;
	p->keeper = mount_copy(p->old_root, false);
	return p->keeper < 0 ? error_set(e, p->keeper, "cannot copy the root mount") : 0;
}

/* Only what is mounted on the root itself is moved: what lies deeper comes along. */
static int prepare_mounts(struct pivot *p, struct error *e)
{
	struct mount_table table = {0};
	int r = mount_id_of_fd(p->old_root, &p->old_id);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = mount_table_read(&table, e);
	if (r < 0)
		return r;
	const struct mount *m = mount_table_find(&table, p->old_id);
	p->peers = m ? m->peers : 0;
	p->master = m ? m->master : 0;
	p->unbindable = m && (m->propagation & MS_UNBINDABLE);
	for (size_t i = 0; r == 0 && i < table.count; i++) {
		m = &table.mounts[i];
		if (m->parent != p->old_id || m->id == p->old_id)
			continue;
		if (!is_left(p, m))
			r = prepare_mount(p, m, e);
		else if (p->leave && strcmp(p->leave, m->target) == 0)
			p->leave_dev = m->dev;
	}
	mount_table_free(&table);
	if (r == 0)
		r = keep_groups(p, e);
	if (r == 0 && pivot_new_journal(p) < 0)
		r = error_set(e, ENOMEM, "cannot prepare the pivot");
	return r;
}

void pivot_init(struct pivot *p)
{
	*p = (struct pivot){.new_root = -1,
		.slot = -1,
		.new_slot = -1,
		.old_root = -1,
		.watch = -1,
		.keeper = -1};
}

static int prepare(struct pivot *p, const char *leave, struct error *e)
{
	if (leave && !(p->leave = strdup(leave)))
		return error_set(e, ENOMEM, "cannot prepare the pivot");
	p->old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->old_root < 0)
		return error_set(e, errno, "cannot open /");
	/* Before the table is read: a change in between is seen, if twice. */
	p->watch = mount_watch_open();
	if (p->watch < 0)
		return error_set(e, p->watch, "cannot watch the mount table");
	return prepare_mounts(p, e);
}

int pivot_prepare(
	struct pivot *p, int new_root, int slot, int new_slot, const char *leave, struct error *e)
{
	pivot_init(p);
	p->new_root = new_root;
	p->slot = slot;
	p->new_slot = new_slot;
	p->may_make = true;
	int r = prepare(p, leave, e);
	/* Not in the blackout, should the table have to be read again there. */
	p->may_make = false;
	return r;
}

int pivot_prepare_like(
	struct pivot *p, const struct pivot *main, int new_root, bool may_make, struct error *e)
{
	pivot_init(p);
	p->new_root = new_root;
	p->leave_dev = main->leave_dev;
	p->may_make = may_make;
	return prepare(p, main->leave, e);
}

void pivot_done(struct pivot *p)
{
	drop_mounts(p);
	drop_journal(p);
	free(p->leave);
	p->leave = NULL;
	p->old_root = fd_close(p->old_root);
	p->watch = fd_close(p->watch);
	p->keeper = fd_close(p->keeper);
}

int pivot_verify(struct pivot *p, struct error *e)
{
	int changed = mount_watch_changed(p->watch);

	if (changed < 0)
		return error_set(e, changed, "cannot ask whether the mount table has changed");
	if (!changed)
		return 0;
	log_debug("the mount table has changed since the plan: read again");
	drop_mounts(p);
	return prepare_mounts(p, e);
}

/* The steps, each with the one that takes it back */

static int step(uint8_t *state, int r)
{
	*state = r < 0 ? STEP_NOT : STEP_DONE;
	return r;
}

/* What takes a step back fails where the step had only begun and was never made. */
static int step_back(uint8_t *state, int r)
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
	int r = p->new_slot >= 0 ? mount_set_propagation(p->new_root, MS_PRIVATE) : 0;
	if (r < 0)
		return error_set(e, r, "cannot make the new root mount private");
	/* Only the roots: what is mounted below keeps its propagation. A mount cannot be moved off
	 * a shared parent, and pivot_root(2) refuses a shared root. */
	if (!p->peers)
		return 0;
	*state = STEP_BEGUN;
	r = step(state, mount_set_propagation(p->old_root, MS_PRIVATE));
	return r < 0 ? error_set(e, r, "cannot make the root mount private") : 0;
}

static int attach(struct pivot *p, struct error *e)
{
	p->journal->attached = STEP_BEGUN;
	int r = step(&p->journal->attached, mount_move(p->new_root, p->old_root));
	return r < 0 ? error_set(e, r, "cannot attach the new root") : 0;
}

static int move_one(struct pivot *p, size_t i, struct error *e)
{
	struct pivot_mount *m = &p->mounts[i];
	uint8_t *state = &p->journal->moved[i];

	if (m->to < 0)
		m->to = open_mount_point(p->new_root, m->path, e);
	if (m->to < 0)
		return m->to;
	*state = STEP_BEGUN;
	int r = step(state, mount_move(m->from, m->to));
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
	int r = step(&p->journal->pivoted, mount_pivot(p->new_root));
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
	int r = step(&p->journal->stowed, mount_move(p->old_root, p->slot));
	return r < 0 ? error_set(e, r, "cannot put the old root away") : 0;
}

int pivot_run(struct pivot *p, struct error *e)
{
	struct error undo;
	int r;

	if ((r = attach(p, e)) == 0 && (r = move_all(p, e)) == 0 && (r = pivot(p, e)) == 0 &&
		(r = stow(p, e)) == 0)
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
	int r = step_back(&p->journal->stowed, mount_move(p->old_root, root));
	return r < 0 ? error_set(e, r, "cannot bring the old root back") : 0;
}

static int unpivot(struct pivot *p, struct error *e)
{
	if (p->journal->pivoted == STEP_NOT)
		return 0;
	int r = step_back(&p->journal->pivoted, mount_pivot(p->old_root));
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
		int r = step_back(
			&p->journal->moved[i], back < 0 ? back : mount_move(m->from, back));
		if (r < 0)
			result = error_set(e, r, "cannot move the mount at %s back", m->path);
	}
	return result;
}

/* A mount that was detached cannot be detached into a descriptor again: it goes where it can be
 * unmounted, or is unmounted at once. */
static int detach_new(struct pivot *p, struct error *e)
{
	int to = p->new_slot >= 0 ? p->new_slot : p->slot;

	if (p->journal->attached == STEP_NOT)
		return 0;
	int r = step_back(&p->journal->attached,
		to >= 0 ? mount_move(p->new_root, to) : mount_detach(p->new_root));
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
	r = step_back(&p->journal->made_private, r);
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
	if ((last = rejoin_groups(p, e)) < 0)
		r = r ? r : last;
	return r;
}
