/* SPDX-License-Identifier: MIT */
#include "upgrade/stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "kernel/util.h"
#include "upgrade/pivot.h"

#define PREFIX ".molt-carry."
#define DIGITS 8

bool stage_is_temporary(const char *name)
{
	size_t prefix = strlen(PREFIX);

	return strncmp(name, PREFIX, prefix) == 0 && strlen(name) == prefix + DIGITS &&
	       strspn(name + prefix, "0123456789abcdef") == DIGITS;
}

/* "/etc/ssh/key" -> "/etc/ssh" in `buf`, and "key" */
static const char *split(const char *path, char buf[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t n = (size_t)(slash - path);

	(void)snprintf(buf, PATH_MAX, "%.*s", (int)(n ? n : 1), path);
	return slash + 1;
}

static int note_made(struct stage *s, const char *path)
{
	char **grown = reallocarray(s->made, s->n_made + 1, sizeof(*grown));
	char *copy = strdup(path);

	if (grown)
		s->made = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	s->made[s->n_made++] = copy;
	return 0;
}

static int make_like(
	const struct stage *s, int parent, const char *name, const char *path, struct error *e)
{
	struct stat st;
	CLEANUP_FD int like = open_in_root(s->from, path, O_PATH | O_DIRECTORY);

	if (like < 0 || fstat(like, &st) < 0)
		return error_set(e, like < 0 ? like : errno, "cannot look at %s", path);
	if (mkdirat(parent, name, 0700) < 0)
		return error_set(e, errno, "cannot make the directory %s", path);
	CLEANUP_FD int made = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (made < 0)
		return error_set(e, errno, "cannot open the directory %s", path);
	return copy_metadata(like, made, &st, path, e);
}

/* Opens a directory of the other root, which is made if it is missing. */
static int open_parent(struct stage *s, const char *path, struct error *e)
{
	char above[PATH_MAX];
	int fd = open_in_root(s->root, path, O_RDONLY | O_DIRECTORY);

	if (fd >= 0)
		return fd;
	if (fd != -ENOENT || strcmp(path, "/") == 0)
		return error_set(e, fd, "cannot open the directory %s there", path);
	const char *name = split(path, above);
	CLEANUP_FD int parent = open_parent(s, above, e);
	if (parent < 0)
		return parent;
	if (note_made(s, path) < 0)
		return error_set(e, ENOMEM, "cannot make the directory %s", path);
	int r = make_like(s, parent, name, path, e);
	if (r < 0)
		return r;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set(e, errno, "cannot open the directory %s", path) : fd;
}

static bool is_ours(const struct stage *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->list[i].name, name) == 0)
			return true;
	return false;
}

/* Of somebody who was killed between copying and renaming. */
static void sweep(const struct stage *s, int parent)
{
	int own = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *entry;

	if (!dir) {
		(void)fd_close(own);
		return;
	}
	while ((entry = readdir(dir)))
		if (stage_is_temporary(entry->d_name) && !is_ours(s, entry->d_name))
			(void)copy_remove(parent, entry->d_name);
	(void)closedir(dir);
}

static int note_staged(struct stage *s, const char *path, struct staged **ret)
{
	struct staged *grown = reallocarray(s->list, s->count + 1, sizeof(*grown));
	char *copy = strdup(path);
	unsigned number;

	if (grown)
		s->list = grown;
	if (!grown || !copy || getrandom(&number, sizeof(number), 0) != sizeof(number)) {
		free(copy);
		return -ENOMEM;
	}
	struct staged *t = &s->list[s->count++];
	t->path = copy;
	(void)snprintf(t->name, sizeof(t->name), PREFIX "%0*x", DIGITS, number);
	*ret = t;
	return 0;
}

int stage_add(struct stage *s, const char *path, struct error *e)
{
	char above[PATH_MAX];
	struct staged *t;

	(void)split(path, above);
	CLEANUP_FD int from = open_in_root(s->from, path, O_PATH | O_NOFOLLOW);
	if (from < 0)
		return error_set(e, from, "cannot open %s, which is to be carried", path);
	CLEANUP_FD int parent = open_parent(s, above, e);
	if (parent < 0)
		return parent;
	sweep(s, parent);
	if (note_staged(s, path, &t) < 0)
		return error_set(e, ENOMEM, "cannot carry %s", path);
	return copy_entry(from, parent, t->name, path, &s->budget, e);
}

static int move_children(int from, int to)
{
	int own = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *entry;

	if (!dir) {
		(void)fd_close(own);
		return -errno;
	}
	while (r == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			renameat(from, entry->d_name, to, entry->d_name) < 0)
			r = -errno;
	(void)closedir(dir);
	return r;
}

/* On an overlay a directory of a lower layer keeps its place: what is in it is exchanged. */
static int refill(
	int parent, const char *temporary, const char *name, const char *path, struct error *e)
{
	struct stat st;
	CLEANUP_FD int from = openat(parent, temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int to = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (from < 0 || to < 0 || fstat(from, &st) < 0)
		return error_set(e, errno, "cannot open the directory %s", path);
	int r = copy_remove_children(to);
	if (r == 0)
		r = move_children(from, to);
	return r < 0 ? error_set(e, r, "cannot fill the directory %s anew", path)
		     : copy_metadata(from, to, &st, path, e);
}

/* A directory takes the place of another as a whole; what was there is removed. */
static int exchange(
	int parent, const char *temporary, const char *name, const char *path, struct error *e)
{
	int r = renameat2(parent, temporary, parent, name, RENAME_EXCHANGE) < 0 ? -errno : 0;

	if (r == -EXDEV || r == -EINVAL)
		r = refill(parent, temporary, name, path, e);
	else if (r < 0)
		r = error_set(e, r, "cannot put the carried directory %s into place", path);
	if (r < 0)
		return r;
	r = copy_remove(parent, temporary);
	return r < 0 ? error_set(e, r, "cannot remove what was at %s", path) : 0;
}

static int place_one(const struct stage *s, struct staged *t, struct error *e)
{
	char above[PATH_MAX];
	struct stat st, old;
	const char *name = split(t->path, above);
	CLEANUP_FD int parent = open_in_root(s->root, above, O_RDONLY | O_DIRECTORY);
	int r;

	if (parent < 0 || fstatat(parent, t->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(
			e, parent < 0 ? parent : errno, "cannot find the copy of %s", t->path);
	bool there = fstatat(parent, name, &old, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && S_ISDIR(st.st_mode) != S_ISDIR(old.st_mode))
		return error_say(e, EEXIST,
			S_ISDIR(old.st_mode)
				? "%s is to be carried, and the image has a directory there"
				: "the directory %s is to be carried, and the image has none there, but a file or link",
			t->path);
	if (there && S_ISDIR(st.st_mode))
		r = exchange(parent, t->name, name, t->path, e);
	else
		r = renameat(parent, t->name, parent, name) < 0
			    ? error_set(e, errno, "cannot put the copy of %s into place%s", t->path,
				      errno == EPERM ? " (is the image's own immutable? chattr -i)"
						     : "")
			    : 0;
	if (r < 0)
		return r;
	t->name[0] = '\0';
	return 0;
}

/* All of it at once: a file at a time would be a journal's commit for each. */
static int sync_root(const struct stage *s, struct error *e)
{
	CLEANUP_FD int root = openat(s->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0 || syncfs(root) < 0)
		return error_set(e, errno, "cannot write what is carried to disk");
	return 0;
}

int stage_place(struct stage *s, struct error *e)
{
	int r = s->count > 0 ? sync_root(s, e) : 0;

	for (size_t i = 0; r == 0 && i < s->count; i++)
		r = place_one(s, &s->list[i], e);
	return r == 0 && s->count > 0 ? sync_root(s, e) : r;
}

static void remove_staged(const struct stage *s, const struct staged *t)
{
	char above[PATH_MAX];

	if (!t->name[0])
		return;
	(void)split(t->path, above);
	CLEANUP_FD int parent = open_in_root(s->root, above, O_RDONLY | O_DIRECTORY);
	if (parent >= 0)
		(void)copy_remove(parent, t->name);
}

/* Unless something was placed in it. */
static void remove_made(const struct stage *s, const char *path)
{
	char above[PATH_MAX];
	const char *name = split(path, above);
	CLEANUP_FD int parent = open_in_root(s->root, above, O_RDONLY | O_DIRECTORY);

	if (parent >= 0)
		(void)unlinkat(parent, name, AT_REMOVEDIR);
}

void stage_undo(struct stage *s)
{
	for (size_t i = 0; i < s->count; i++)
		remove_staged(s, &s->list[i]);
	for (size_t i = s->n_made; i-- > 0;)
		remove_made(s, s->made[i]);
	stage_done(s);
}

void stage_done(struct stage *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->list[i].path);
	for (size_t i = 0; i < s->n_made; i++)
		free(s->made[i]);
	free(s->list);
	free(s->made);
	*s = (struct stage){.from = -1, .root = -1};
}
