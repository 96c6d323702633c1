/* SPDX-License-Identifier: MIT */
#include "upgrade/pivot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"

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
	return error_set(e, errno,
		"the image has no place for the mount at %s (make that directory in it)", path);
}

static int add_mount(struct pivot *p, uint64_t id, const char *path, int from, int to)
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
	if (to < 0)
		return to;
	int r = add_mount(p, m->id, m->target, fd_steal(&from), fd_steal(&to));
	return r < 0 ? error_set(e, r, "cannot plan the move of %s", m->target) : 0;
}

/* Only what is mounted on the root itself is moved: what lies deeper comes along. */
static int prepare_mounts(struct pivot *p, struct error *e)
{
	struct mount_table table = {0};
	uint64_t root;
	int r = mount_id_of_fd(p->old_root, &root);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = mount_table_read(&table, e);
	if (r < 0)
		return r;
	const struct mount *m = mount_table_find(&table, root);
	p->old_shared = m && (m->propagation & MS_SHARED);
	for (size_t i = 0; r == 0 && i < table.count; i++)
		if (table.mounts[i].parent == root && table.mounts[i].id != root &&
			!(p->leave && strcmp(p->leave, table.mounts[i].target) == 0))
			r = prepare_mount(p, &table.mounts[i], e);
	mount_table_free(&table);
	return r;
}

int pivot_prepare(
	struct pivot *p, int new_root, int slot, int new_slot, const char *leave, struct error *e)
{
	*p = (struct pivot){.new_root = new_root,
		.slot = slot,
		.new_slot = new_slot,
		.old_root = -1,
		.watch = -1};
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

void pivot_done(struct pivot *p)
{
	drop_mounts(p);
	free(p->leave);
	p->leave = NULL;
	p->old_root = fd_close(p->old_root);
	p->watch = fd_close(p->watch);
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

static int make_private(struct pivot *p, struct error *e)
{
	/* Only the roots: what is mounted below keeps its propagation. A mount cannot be moved off
	 * a shared parent, and pivot_root(2) refuses a shared root. */
	if (!p->old_shared)
		return 0;
	int r = mount_set_propagation(p->old_root, MS_PRIVATE);
	if (r < 0)
		return error_set(e, r, "cannot make the root mount private");
	p->old_made_private = true;
	return 0;
}

static int attach(struct pivot *p, struct error *e)
{
	int r = mount_move(p->new_root, p->old_root);

	if (r < 0)
		return error_set(e, r, "cannot attach the new root");
	p->attached = true;
	return 0;
}

static int move_all(struct pivot *p, struct error *e)
{
	for (size_t i = 0; i < p->n_mounts; i++) {
		struct pivot_mount *m = &p->mounts[i];
		int r = mount_move(m->from, m->to);
		if (r < 0)
			return error_set(e, r, "cannot move the mount at %s", m->path);
		m->moved = true;
	}
	return 0;
}

static int pivot(struct pivot *p, struct error *e)
{
	int r = mount_pivot(p->new_root);

	if (r < 0)
		return error_set(e, r, "cannot pivot to the new root%s",
			r == -EINVAL ? " (a root in the initramfs cannot be pivoted away from)"
				     : "");
	p->pivoted = true;
	return 0;
}

/* Left where pivot_root(".", ".") puts it, on top of the new root, ".." of any process would lead
 * into it. */
static int stow(struct pivot *p, struct error *e)
{
	int r = mount_move(p->old_root, p->slot);

	if (r < 0)
		return error_set(e, r, "cannot put the old root away");
	p->stowed = true;
	return 0;
}

static void share_again(struct pivot *p)
{
	int r = p->old_shared ? mount_set_propagation(p->new_root, MS_SHARED) : 0;

	if (r < 0)
		log_warning(
			"cannot make the new root shared, as the old one was: %s", strerror(-r));
}

int pivot_run(struct pivot *p, struct error *e)
{
	struct error undo;
	int r;

	if ((r = make_private(p, e)) == 0 && (r = attach(p, e)) == 0 && (r = move_all(p, e)) == 0 &&
		(r = pivot(p, e)) == 0 && (r = stow(p, e)) == 0) {
		share_again(p);
		return 0;
	}
	if (pivot_undo(p, &undo) < 0)
		log_error("and it could not be taken back: %s", undo.text);
	return r;
}

static int unstow(struct pivot *p, struct error *e)
{
	CLEANUP_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return error_set(e, errno, "cannot open /");
	if (p->old_shared && mount_set_propagation(p->new_root, MS_PRIVATE) < 0)
		log_warning("cannot make the new root private again: %s", strerror(errno));
	int r = mount_move(p->old_root, root);
	if (r < 0)
		return error_set(e, r, "cannot bring the old root back");
	p->stowed = false;
	return 0;
}

static int unpivot(struct pivot *p, struct error *e)
{
	int r = mount_pivot(p->old_root);

	if (r < 0)
		return error_set(e, r, "cannot pivot back to the old root");
	p->pivoted = false;
	return 0;
}

static int unmove_all(struct pivot *p, struct error *e)
{
	int result = 0;

	for (size_t i = p->n_mounts; i-- > 0;) {
		struct pivot_mount *m = &p->mounts[i];
		if (!m->moved)
			continue;
		CLEANUP_FD int back = open_in_root(p->old_root, m->path, O_PATH);
		int r = back < 0 ? back : mount_move(m->from, back);
		if (r < 0)
			result = error_set(e, r, "cannot move the mount at %s back", m->path);
		else
			m->moved = false;
	}
	return result;
}

/* A mount that was detached cannot be detached into a descriptor again: it goes where it can be
 * unmounted. */
static int detach_new(struct pivot *p, struct error *e)
{
	int r = mount_move(p->new_root, p->new_slot >= 0 ? p->new_slot : p->slot);

	if (r < 0)
		return error_set(e, r, "cannot put the new root away");
	p->attached = false;
	return 0;
}

int pivot_undo(struct pivot *p, struct error *e)
{
	int r = 0;

	if (p->stowed)
		r = unstow(p, e);
	if (r == 0 && p->pivoted)
		r = unpivot(p, e);
	/* The new root stands on top of the old one again, with the mounts on it. */
	if (r == 0)
		r = unmove_all(p, e);
	if (p->attached && !p->pivoted) {
		int last = detach_new(p, e);
		r = r ? r : last;
	}
	if (p->old_made_private && mount_set_propagation(p->old_root, MS_SHARED) == 0)
		p->old_made_private = false;
	return r;
}
