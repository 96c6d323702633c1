/* SPDX-License-Identifier: MIT */
#include "upgrade/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "upgrade/pivot.h"

#define LINKS_MAX 40 /* as many as path_resolution(7) follows */

static int open_how(int root, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | resolve};

	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	return fd < 0 ? -errno : fd;
}

int open_in_root(int root, const char *path, uint64_t flags)
{
	return open_how(root, path, flags, RESOLVE_NO_MAGICLINKS);
}

int open_mount_point(int root, const char *path, struct error *e)
{
	int fd = open_how(root, path, O_PATH, RESOLVE_NO_SYMLINKS);

	if (fd == -ELOOP)
		return error_say(e, ELOOP,
			"the image has a symbolic link where the mount at %s is to go (it has to be a directory)",
			path);
	if (fd == -ENOENT)
		return error_set(e, ENOENT,
			"the image has no place for the mount at %s (make that directory in it)",
			path);
	if (fd < 0)
		return error_set(
			e, fd, "cannot open the place for the mount at %s in the image", path);
	return fd;
}

/* Making what is missing */

bool can_make_mount_point(int root)
{
	struct statvfs fs;

	return fstatvfs(root, &fs) == 0 && !(fs.f_flag & ST_RDONLY);
}

/* What the kernel knows of it already: a file system whose server does not answer is not asked. */
static bool is_link(int fd)
{
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) == 0 &&
	       S_ISLNK(st.stx_mode);
}

static int make_at(int parent, const char *name, bool directory)
{
	if (directory)
		return mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
	CLEANUP_FD int fd = openat(parent, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : 0;
}

/* One part of the path after the other, each below the one before: no link is followed. */
static int make_all(int root, char *path, bool directory)
{
	CLEANUP_FD int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
	int r = at < 0 ? -errno : 0;

	for (char *name = path + strspn(path, "/"), *next; r == 0 && *name; name = next) {
		next = name + strcspn(name, "/");
		bool last = next[strspn(next, "/")] == '\0';
		if (*next)
			*next++ = '\0';
		r = make_at(at, name, directory || !last);
		if (r < 0 || last)
			return r;
		int below = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below < 0)
			return -errno;
		(void)fd_close(at);
		at = below;
	}
	return r;
}

int make_mount_point(int root, const char *path, int mount, struct error *e)
{
	char copy[PATH_MAX];

	(void)snprintf(copy, sizeof(copy), "%s", path);
	int r = make_all(root, copy, mount < 0 || mount_is_directory(mount));
	if (r < 0)
		return error_set(
			e, r, "cannot make a place for the mount at %s in the image", path);
	log_notice("made a place for the mount at %s in the image", path);
	return open_mount_point(root, path, e);
}

/* Following links through what will be mounted where */

bool path_is_below(const char *path, const char *above)
{
	size_t length = strlen(above);

	return strncmp(path, above, length) == 0 && path[length] == '/';
}

static const struct pivot_mount *mount_placed_at(const struct pivot *p, const char *path)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (p->mounts[i].place && strcmp(p->mounts[i].place, path) == 0)
			return &p->mounts[i];
	return NULL;
}

/* The one that will be mounted nearest above a path; NULL: it is the image's own. */
static const struct pivot_mount *mount_above(const struct pivot *p, const char *path)
{
	const struct pivot_mount *nearest = NULL;

	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct pivot_mount *m = &p->mounts[i];
		if (m->place && path_is_below(path, m->place) &&
			(!nearest || path_is_below(m->place, nearest->place)))
			nearest = m;
	}
	return nearest;
}

/* What `path`, which no link leads to, will be. */
static int open_placed(const struct pivot *p, const char *path)
{
	const struct pivot_mount *m = mount_above(p, path);

	if (!m)
		return open_how(p->new_root, path, O_PATH | O_NOFOLLOW, RESOLVE_NO_MAGICLINKS);
	if (m->from < 0)
		return -EBUSY; /* it is hidden by another one */
	return open_how(
		m->from, path + strlen(m->place), O_PATH | O_NOFOLLOW, RESOLVE_NO_MAGICLINKS);
}

struct walk {
	const struct pivot *p;
	unsigned links;
	char here[PATH_MAX]; /* as far as it has come: no links in it */
	char rest[PATH_MAX]; /* still to go */
};

static int follow(struct walk *w, int link, const char *rest)
{
	char target[PATH_MAX], longer[PATH_MAX];
	ssize_t length = readlinkat(link, "", target, sizeof(target) - 1);

	if (length < 0)
		return -errno;
	target[length] = '\0';
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	if (target[0] == '/')
		w->here[0] = '\0';
	int n = snprintf(longer, sizeof(longer), "%s/%s", target, rest);
	if (n < 0 || (size_t)n >= sizeof(longer))
		return -ENAMETOOLONG;
	(void)snprintf(w->rest, sizeof(w->rest), "%s", longer);
	return 0;
}

static int step_into(struct walk *w, const char *name, const char *rest)
{
	char next[PATH_MAX];
	int n = snprintf(next, sizeof(next), "%s/%s", w->here, name);

	if (n < 0 || (size_t)n >= sizeof(next))
		return -ENAMETOOLONG;
	CLEANUP_FD int fd = mount_placed_at(w->p, next) ? -1 : open_placed(w->p, next);
	if (fd >= 0 && is_link(fd))
		return follow(w, fd, rest);
	/* What is missing on the image may be made. */
	if (fd < 0 && !mount_placed_at(w->p, next) && (fd != -ENOENT || mount_above(w->p, next)))
		return fd;
	(void)snprintf(w->here, sizeof(w->here), "%s", next);
	(void)memmove(w->rest, rest, strlen(rest) + 1);
	return 0;
}

static void step_up(struct walk *w, const char *rest)
{
	char *last = strrchr(w->here, '/');

	if (last)
		*last = '\0';
	(void)memmove(w->rest, rest, strlen(rest) + 1);
}

static int walk(struct walk *w)
{
	int r = 0;

	while (r == 0 && w->rest[strspn(w->rest, "/")] != '\0') {
		char name[NAME_MAX + 1];
		const char *from = w->rest + strspn(w->rest, "/");
		size_t length = strcspn(from, "/");
		if (length >= sizeof(name))
			return -ENAMETOOLONG;
		(void)memcpy(name, from, length);
		name[length] = '\0';
		if (strcmp(name, "..") == 0)
			step_up(w, from + length);
		else if (strcmp(name, ".") == 0)
			(void)memmove(w->rest, from + length, strlen(from + length) + 1);
		else
			r = step_into(w, name, from + length);
	}
	return r;
}

/* Nothing else may come to lie there, or be buried below it. */
static int check_free(
	const struct pivot *p, const struct pivot_mount *m, const char *place, struct error *e)
{
	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct pivot_mount *other = &p->mounts[i];
		if (other == m || !other->place)
			continue;
		if (strcmp(other->place, place) == 0 || path_is_below(other->place, place))
			return error_say(e, EEXIST,
				"the image has a symbolic link where the mount at %s is to go: it leads to %s, where the mount at %s goes (unmount one of them)",
				m->path, place, other->path);
	}
	return 0;
}

static int resolve(struct pivot *p, struct pivot_mount *m, struct error *e)
{
	CLEANUP_FREE struct walk *w = calloc(1, sizeof(*w));

	if (!w)
		return error_set(e, ENOMEM, "cannot plan the move of %s", m->path);
	w->p = p;
	(void)snprintf(w->rest, sizeof(w->rest), "%s", m->path);
	int r = walk(w);
	if (r < 0)
		return error_set(e, r,
			"the image has a symbolic link where the mount at %s is to go, and it cannot be followed beyond %s",
			m->path, w->here[0] ? w->here : "/");
	if (!w->here[0])
		return error_say(e, EEXIST,
			"the image has a symbolic link to / where the mount at %s is to go",
			m->path);
	r = check_free(p, m, w->here, e);
	if (r < 0)
		return r;
	const struct pivot_mount *above = mount_above(p, w->here);
	/* What is mounted below a shared mount cannot be moved away from it again. */
	if (above && above->shared)
		return error_say(e, EBUSY,
			"the image has a symbolic link where the mount at %s is to go: it leads into that at %s, which is shared (mount --make-private %s, or unmount one)",
			m->path, above->path, above->path);
	m->inside = above != NULL;
	m->place = strdup(w->here);
	return m->place ? 0 : error_set(e, ENOMEM, "cannot plan the move of %s", m->path);
}

int place_open(const struct pivot *p, const struct pivot_mount *m, struct error *e)
{
	if (!m->inside)
		return open_mount_point(p->new_root, m->place, e);
	int fd = open_placed(p, m->place);
	return fd < 0 ? error_set(e, fd,
				"there is no %s for the mount at %s, where the image has a symbolic link to it",
				m->place, m->path)
		      : fd;
}

/* What hides a mount that cannot be opened is of the same kind. */
static int make_place(const struct pivot *p, const struct pivot_mount *m, struct error *e)
{
	CLEANUP_FD int upper = m->from < 0 ? open_in_root(p->old_root, m->path, O_PATH) : -1;

	return make_mount_point(p->new_root, m->place, m->from < 0 ? upper : m->from, e);
}

/* Where it is, or is to be made; -ELOOP: a link is in the way. */
static int find(struct pivot *p, struct pivot_mount *m, struct error *e)
{
	int to = place_open(p, m, e);

	if (to == -ENOENT && !m->inside && can_make_mount_point(p->new_root)) {
		if (!p->may_make)
			return 0;
		to = make_place(p, m, e);
	}
	if (to < 0)
		return to;
	m->to = to;
	return 0;
}

int place_all(struct pivot *p, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < p->n_mounts; i++) {
		struct pivot_mount *m = &p->mounts[i];
		r = find(p, m, e);
		if (r != -ELOOP || strcmp(m->place, m->path) != 0)
			continue;
		free(m->place);
		m->place = NULL;
		r = 0;
	}
	/* When it is known where all the others go. */
	for (size_t i = 0; r >= 0 && i < p->n_mounts; i++) {
		struct pivot_mount *m = &p->mounts[i];
		if (m->place)
			continue;
		r = resolve(p, m, e);
		if (r == 0)
			r = find(p, m, e);
	}
	return r;
}
