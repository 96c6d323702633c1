/* SPDX-License-Identifier: MIT */
/* What a pivot needs, opened and found out before it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/grafts.h"
#include "upgrade/mount_open.h"
#include "upgrade/pivot.h"
#include "upgrade/renamed.h"
#include "upgrade/sides.h"
#include "upgrade/uncover.h"

void pivot_init(struct pivot *p)
{
	*p = (struct pivot){
		.new_root = -1, .slot = -1, .old_root = -1, .watch = -1, .aside = -1, .keeper = -1};
}

int pivot_add_mount(struct pivot *p, const struct pivot_mount *m)
{
	struct pivot_mount *grown = reallocarray(p->mounts, p->n_mounts + 1, sizeof(*grown));
	char *path = strdup(m->path), *place = strdup(m->place);

	if (grown)
		p->mounts = grown;
	if (!grown || !path || !place) {
		free(path);
		free(place);
		(void)fd_close(m->from);
		(void)fd_close(m->to);
		return -ENOMEM;
	}
	p->mounts[p->n_mounts] = *m;
	p->mounts[p->n_mounts].path = path;
	p->mounts[p->n_mounts++].place = place;
	return 0;
}

int pivot_add_cover(struct pivot *p, const struct pivot_cover *c)
{
	struct pivot_cover *grown = reallocarray(p->covers, p->n_covers + 1, sizeof(*grown));
	char *path = strdup(c->path);

	if (grown)
		p->covers = grown;
	if (!grown || !path) {
		free(path);
		return -ENOMEM;
	}
	p->covers[p->n_covers] = *c;
	p->covers[p->n_covers++].path = path;
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
	size_t size = sizeof(*p->journal) + p->n_mounts + p->n_covers;

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
		free(p->mounts[i].place);
	}
	free(p->mounts);
	p->mounts = NULL;
	p->n_mounts = 0;
	for (size_t i = 0; i < p->n_covers; i++)
		free(p->covers[i].path);
	free(p->covers);
	p->covers = NULL;
	p->n_covers = 0;
	p->aside = fd_close(p->aside);
}

/* The same path may be another mount in another namespace. */
static bool is_left(const struct pivot *p, const struct mount *m)
{
	if (grafts_has(sides.current.generation, m->target, m->dev))
		return true;
	return p->leave && strcmp(p->leave, m->target) == 0 &&
	       (!p->leave_dev || p->leave_dev == m->dev);
}

/* 1: it cannot be seen from here, another one is over it. */
static int open_mount(const struct mount *m, int *ret, struct error *e)
{
	CLEANUP_FD int fd = mount_open(m); /* never waits for an automount */
	uint64_t id;

	if (fd == -ETIMEDOUT)
		return error_say(e, EBUSY,
			"the automount at %s is being mounted or unmounted just now, and its daemon does not get done",
			m->target);
	if (fd < 0 && fd != -ENOENT && fd != -ENOTDIR)
		return error_set(e, fd, "cannot open the mount at %s", m->target);
	int r = fd < 0 ? 1 : mount_id_of_fd(fd, &id);
	if (r < 0)
		return error_set(e, r, "cannot identify the mount at %s", m->target);
	if (r > 0 || id != m->id)
		return 1;
	*ret = fd_steal(&fd);
	return 0;
}

static int take_mount(struct pivot *p, const struct mount *m, const char *was, struct error *e)
{
	struct pivot_mount mount = {.id = m->id,
		.path = m->target,
		.place = (char *)(was ? was : m->target),
		.from = -1,
		.to = -1,
		.elsewhere = m->parent != p->old_id,
		.shared = m->peers != 0};
	int r = open_mount(m, &mount.from, e);

	if (r < 0)
		return r;
	r = pivot_add_mount(p, &mount);
	return r < 0 ? error_set(e, r, "cannot plan the move of %s", m->target) : 0;
}

/*
 * Only what is mounted on the root itself is moved: what lies deeper comes along. But for what an
 * earlier upgrade has put inside of another mount, and is now to go back to where it was.
 */
static int take_mounts(struct pivot *p, const struct mount_table *t, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->count; i++) {
		const struct mount *m = &t->mounts[i];
		if (m->id == p->old_id)
			continue;
		const char *was = renamed_from(p->generation, m->id, m->target);
		if (m->parent != p->old_id && !was)
			continue;
		if (!is_left(p, m))
			r = take_mount(p, m, was, e);
		else if (p->leave && strcmp(p->leave, m->target) == 0)
			p->leave_dev = m->dev;
	}
	return r;
}

/*
 * What lies on top comes first: it is moved first, and where that is taken back, last. A mount over
 * the directory of another one has the shorter path; one inside of another one the longer.
 */
static int compare(const void *a, const void *b)
{
	const struct pivot_mount *x = a, *y = b;

	if (x->elsewhere != y->elsewhere)
		return x->elsewhere ? -1 : 1;
	size_t left = strlen(x->path), right = strlen(y->path);
	return left != right ? (left > right) - (left < right) : strcmp(x->path, y->path);
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

static int prepare_from(struct pivot *p, const struct mount_table *t, struct error *e)
{
	const struct mount *m = mount_table_find(t, p->old_id);

	p->peers = m ? m->peers : 0;
	p->master = m ? m->master : 0;
	p->unbindable = m && (m->propagation & MS_UNBINDABLE);
	int r = take_mounts(p, t, e);
	if (r < 0)
		return r;
	if (p->n_mounts > 1)
		qsort(p->mounts, p->n_mounts, sizeof(*p->mounts), compare);
	r = uncover_plan(p, t, e);
	return r < 0 ? r : place_all(p, e);
}

static int prepare_mounts(struct pivot *p, struct error *e)
{
	struct mount_table table = {0};
	int r = mount_id_of_fd(p->old_root, &p->old_id);

	if (r < 0)
		return error_set(e, r, "cannot identify the root mount");
	r = mount_table_read(&table, e);
	if (r == 0)
		r = prepare_from(p, &table, e);
	mount_table_free(&table);
	return r;
}

static int prepare_all(struct pivot *p, struct error *e)
{
	int r = prepare_mounts(p, e);

	if (r == 0)
		r = keep_groups(p, e);
	if (r == 0)
		r = uncover_prepare(p, e);
	if (r == 0 && pivot_new_journal(p) < 0)
		r = error_set(e, ENOMEM, "cannot prepare the pivot");
	return r;
}

static int open_old(struct pivot *p, const char *leave, struct error *e)
{
	if (leave && !(p->leave = strdup(leave)))
		return error_set(e, ENOMEM, "cannot prepare the pivot");
	p->old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return p->old_root < 0 ? error_set(e, errno, "cannot open /") : 0;
}

static int prepare(struct pivot *p, const char *leave, struct error *e)
{
	int r = open_old(p, leave, e);

	if (r < 0)
		return r;
	/* Before the table is read: a change in between is seen, if twice. */
	p->watch = mount_watch_open();
	if (p->watch < 0)
		return error_set(e, p->watch, "cannot watch the mount table");
	return prepare_all(p, e);
}

int pivot_prepare(struct pivot *p, const struct pivot_request *q, struct error *e)
{
	pivot_init(p);
	p->new_root = q->new_root;
	p->slot = q->slot;
	p->generation = q->generation;
	p->may_make = true;
	int r = prepare(p, q->leave, e);
	/* Not in the blackout, should the table have to be read again there. */
	p->may_make = false;
	return r;
}

int pivot_prepare_like(
	struct pivot *p, const struct pivot *main, int new_root, bool may_make, struct error *e)
{
	pivot_init(p);
	p->new_root = new_root;
	p->generation = main->generation;
	p->leave_dev = main->leave_dev;
	p->may_make = may_make;
	return prepare(p, main->leave, e);
}

int pivot_look(struct pivot *p, int new_root, const char *leave, struct error *e)
{
	pivot_init(p);
	p->new_root = new_root;
	int r = open_old(p, leave, e);
	return r < 0 ? r : prepare_mounts(p, e);
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
	return prepare_all(p, e);
}
