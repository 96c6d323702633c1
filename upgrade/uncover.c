/* SPDX-License-Identifier: MIT */
#include "upgrade/uncover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/mounts.h"
#include "kernel/util.h"

/* Finding out what hides what */

static int add(struct pivot *p, const struct pivot_cover *c, struct error *e)
{
	int r = pivot_add_cover(p, c);

	return r < 0 ? error_set(e, r, "cannot plan the move of %s", p->mounts[c->hides].path) : 0;
}

static size_t index_of(const struct pivot *p, uint64_t id)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (p->mounts[i].id == id)
			return i;
	return COVER_ONLY;
}

/* What was mounted over a directory on the way to it. It comes before it in the list, so it is open
 * or will be by then. */
static int cover_above(struct pivot *p, const struct mount_table *t, size_t hidden, struct error *e)
{
	const char *path = p->mounts[hidden].path;
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->count; i++) {
		const struct mount *m = &t->mounts[i];
		if (m->parent != p->old_id || !path_is_below(path, m->target))
			continue;
		struct pivot_cover c = {m->id, m->target, hidden, index_of(p, m->id)};
		if (c.mount == COVER_ONLY)
			return error_say(e, EBUSY,
				"cannot move the mount at %s: that at %s hides it, which stays (unmount one of them)",
				path, m->target);
		r = add(p, &c, e);
	}
	return r;
}

static const struct mount *stacked_on(const struct mount_table *t, const struct mount *below)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->mounts[i].parent == below->id &&
			strcmp(t->mounts[i].target, below->target) == 0)
			return &t->mounts[i];
	return NULL;
}

/* The uppermost first, down to the one that lies on `m` itself. */
static int cover_stack(struct pivot *p, const struct mount_table *t, const struct mount *m,
	size_t hidden, struct error *e)
{
	const struct mount *upper = stacked_on(t, m);

	if (!upper)
		return 0;
	if (m->peers)
		return error_say(e, EBUSY,
			"cannot move the mount at %s: another one is stacked on it, and it is shared (unmount the upper one)",
			m->target);
	int r = cover_stack(p, t, upper, hidden, e);
	return r < 0 ? r
		     : add(p, &(struct pivot_cover){upper->id, upper->target, hidden, COVER_ONLY},
			       e);
}

int uncover_plan(struct pivot *p, const struct mount_table *t, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_mounts; i++) {
		const struct mount *m =
			p->mounts[i].from < 0 ? mount_table_find(t, p->mounts[i].id) : NULL;
		size_t before = p->n_covers;
		if (!m)
			continue;
		if (!p->mounts[i].elsewhere)
			r = cover_above(p, t, i, e);
		if (r == 0)
			r = cover_stack(p, t, m, i, e);
		if (r == 0 && p->n_covers == before)
			r = error_say(e, EBUSY,
				"cannot move the mount at %s: something hides it (unmount it, or what is over it)",
				m->target);
	}
	return r;
}

/* Where they are put: each has a directory and a file of its own */

static int spot_name(char *buf, size_t size, size_t cover, bool file)
{
	return snprintf(buf, size, "%zu%s", cover, file ? "f" : "");
}

static int make_spot(int aside, size_t cover)
{
	char name[32];

	(void)spot_name(name, sizeof(name), cover, false);
	if (mkdirat(aside, name, 0700) < 0)
		return -errno;
	(void)spot_name(name, sizeof(name), cover, true);
	CLEANUP_FD int fd = openat(aside, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : 0;
}

int uncover_prepare(struct pivot *p, struct error *e)
{
	int r = 0;

	p->aside = fd_close(p->aside);
	if (p->n_covers == 0)
		return 0;
	p->aside = mount_new_tmpfs("molt-aside", "1m");
	for (size_t i = 0; p->aside >= 0 && r == 0 && i < p->n_covers; i++)
		r = make_spot(p->aside, i);
	if (p->aside < 0)
		r = p->aside;
	return r < 0 ? error_set(e, r, "cannot make a place for stacked mounts") : 0;
}

/* Taking away and putting back */

static int open_spot(const struct pivot *p, size_t cover, bool file)
{
	char name[32];

	(void)spot_name(name, sizeof(name), cover, file);
	int fd = openat(p->aside, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The mount `id`, where a path leads to it now. */
static int open_at(const struct pivot *p, const char *path, uint64_t id)
{
	CLEANUP_FD int fd = open_in_root(p->old_root, path, O_PATH | O_NOFOLLOW);
	uint64_t found;

	if (fd < 0)
		return fd;
	int r = mount_id_of_fd(fd, &found);
	if (r < 0)
		return r;
	return found == id ? fd_steal(&fd) : -ESTALE;
}

static uint8_t *state_of(const struct pivot *p, size_t cover)
{
	return &p->journal->moved[p->n_mounts + cover];
}

static int take(struct pivot *p, size_t cover, struct error *e)
{
	const struct pivot_cover *c = &p->covers[cover];
	CLEANUP_FD int opened = c->mount == COVER_ONLY ? open_at(p, c->path, c->id) : -1;
	int mount = c->mount == COVER_ONLY ? opened : p->mounts[c->mount].from;

	if (mount < 0)
		return error_set(e, opened < 0 ? opened : -ESTALE,
			"cannot open the mount at %s, which hides another one", c->path);
	CLEANUP_FD int spot = open_spot(p, cover, !mount_is_directory(mount));
	*state_of(p, cover) = STEP_BEGUN;
	int r = pivot_step(state_of(p, cover), spot < 0 ? spot : mount_move(mount, spot));
	return r < 0 ? error_set(e, r, "cannot move the upper mount at %s aside", c->path) : 0;
}

/* One of those that are moved is known by its descriptor; no path leads to it if another one is
 * stacked on it. -ENOENT: there is none at the spot. */
static int open_taken(const struct pivot *p, size_t cover)
{
	const struct pivot_cover *c = &p->covers[cover];
	int r = -ENOENT;

	if (c->mount != COVER_ONLY)
		r = fcntl(p->mounts[c->mount].from, F_DUPFD_CLOEXEC, 3);
	if (c->mount != COVER_ONLY)
		return r < 0 ? -errno : r;
	for (int file = 0; file < 2; file++) {
		CLEANUP_FD int fd = open_spot(p, cover, file);
		uint64_t id;
		r = fd < 0 ? fd : mount_id_of_fd(fd, &id);
		if (r < 0)
			return r;
		if (id == c->id)
			return fd_steal(&fd);
	}
	return -ENOENT;
}

/* On top of what is there: they come back in the reverse order. */
static int put_back(struct pivot *p, size_t cover, struct error *e)
{
	const struct pivot_cover *c = &p->covers[cover];

	if (*state_of(p, cover) == STEP_NOT)
		return 0;
	CLEANUP_FD int mount = open_taken(p, cover);
	CLEANUP_FD int back = open_in_root(p->old_root, c->path, O_PATH | O_NOFOLLOW);
	int r = mount < 0 ? mount : back < 0 ? back : mount_move(mount, back);
	/* It has not been taken yet, or is back already: it would have to lie on itself. */
	if (mount == -ENOENT || (mount >= 0 && r == -ELOOP))
		r = 0;
	r = pivot_step_back(state_of(p, cover), r);
	return r < 0 ? error_set(e, r, "cannot put the upper mount at %s back", c->path) : 0;
}

static int put_all_back(struct pivot *p, size_t hidden, struct error *e)
{
	int r = 0;

	/* None before the one below it: its place would be hidden. */
	for (size_t i = p->n_covers; r == 0 && i-- > 0;)
		if (p->covers[i].hides == hidden || hidden == COVER_ONLY)
			r = put_back(p, i, e);
	return r;
}

static int open_hidden(struct pivot *p, size_t hidden, struct error *e)
{
	struct pivot_mount *m = &p->mounts[hidden];
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_covers; i++)
		if (p->covers[i].hides == hidden)
			r = take(p, i, e);
	if (r == 0)
		m->from = open_at(p, m->path, m->id);
	if (r == 0 && m->from < 0) {
		r = error_set(e, m->from, "cannot open the mount at %s below another one", m->path);
		m->from = -1;
	}
	if (r == 0 && p->uncovered)
		p->uncovered(p, hidden);
	return r < 0 ? r : put_all_back(p, hidden, e);
}

/* It stands over "/", where no path but ".." leads to it. */
static int attach(struct pivot *p, struct error *e)
{
	p->journal->aside = STEP_BEGUN;
	int r = pivot_step(&p->journal->aside, mount_move(p->aside, p->old_root));
	return r < 0 ? error_set(e, r, "cannot attach a place for stacked mounts") : 0;
}

static int detach(struct pivot *p, struct error *e)
{
	if (p->journal->aside == STEP_NOT)
		return 0;
	int r = mount_detach(p->aside);
	if (r == -EINVAL) /* it is attached nowhere */
		r = 0;
	r = pivot_step_back(&p->journal->aside, r);
	return r < 0 ? error_set(e, r, "cannot take the place for stacked mounts away") : 0;
}

int uncover(struct pivot *p, struct error *e)
{
	int r = 0;

	if (p->n_covers == 0)
		return 0;
	r = attach(p, e);
	for (size_t i = 0; r == 0 && i < p->n_mounts; i++)
		if (p->mounts[i].from < 0)
			r = open_hidden(p, i, e);
	return r < 0 ? r : detach(p, e);
}

int uncover_undo(struct pivot *p, struct error *e)
{
	if (p->n_covers == 0)
		return 0;
	int r = put_all_back(p, COVER_ONLY, e);
	/* With it would go what is still on it. */
	return r < 0 ? r : detach(p, e);
}
