/* SPDX-License-Identifier: MIT */
/* Which files Carry= means. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/util.h"
#include "upgrade/carry.h"
#include "upgrade/pivot.h"
#include "upgrade/stage.h"

/* glob(3) hands no pointer through to the functions that look for it. */
static int glob_root;

static void *glob_opendir(const char *path)
{
	CLEANUP_FD int fd = open_in_root(glob_root, path, O_RDONLY | O_DIRECTORY);

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	DIR *dir = fdopendir(fd);
	if (dir)
		(void)fd_steal(&fd);
	return dir;
}

static struct dirent *glob_readdir(void *dir)
{
	struct dirent *entry = readdir(dir);

	while (entry && stage_is_temporary(entry->d_name))
		entry = readdir(dir);
	return entry;
}

static void glob_closedir(void *dir)
{
	(void)closedir(dir);
}

static int look(const char *path, uint64_t flags, struct stat *ret)
{
	CLEANUP_FD int fd = open_in_root(glob_root, path, O_PATH | flags);

	if (fd < 0) {
		errno = -fd;
		return -1;
	}
	return fstat(fd, ret);
}

static int glob_lstat(const char *path, struct stat *ret)
{
	return look(path, O_NOFOLLOW, ret);
}

static int glob_stat(const char *path, struct stat *ret)
{
	return look(path, 0, ret);
}

static int add(struct carry_list *l, const char *path, enum carry_action action)
{
	struct carry_entry *grown = reallocarray(l->list, l->count + 1, sizeof(*grown));
	char *copy = strdup(path);

	if (grown)
		l->list = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	l->list[l->count++] = (struct carry_entry){.path = copy, .action = action};
	return 0;
}

static bool has(const struct carry_list *l, const char *path)
{
	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->list[i].path, path) == 0)
			return true;
	return false;
}

/* -ENOENT: it matches nothing there. */
static int expand_below(struct carry_list *l, int root, const char *pattern)
{
	glob_t g = {.gl_opendir = glob_opendir,
		.gl_readdir = glob_readdir,
		.gl_closedir = glob_closedir,
		.gl_lstat = glob_lstat,
		.gl_stat = glob_stat};

	glob_root = root;
	int found = glob(pattern, GLOB_ALTDIRFUNC, NULL, &g), r = 0;
	if (found == GLOB_NOMATCH)
		return -ENOENT;
	if (found != 0)
		return found == GLOB_NOSPACE ? -ENOMEM : -EIO;
	for (size_t i = 0; r == 0 && i < g.gl_pathc; i++)
		r = has(l, g.gl_pathv[i]) ? 0 : add(l, g.gl_pathv[i], CARRY_COPY);
	globfree(&g);
	return r;
}

static int expand_one(struct carry_list *l, int root, int other, const char *pattern)
{
	int r = expand_below(l, root, pattern);

	if (other < 0 || (r < 0 && r != -ENOENT))
		return r == -ENOENT ? add(l, pattern, CARRY_MISSING) : r;
	int more = expand_below(l, other, pattern);
	if (more == -ENOENT)
		return r == -ENOENT ? add(l, pattern, CARRY_MISSING) : 0;
	return more;
}

int carry_expand(
	struct carry_list *ret, int root, int other, char *const *patterns, struct error *e)
{
	struct carry_list l = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && patterns && patterns[i]; i++) {
		r = expand_one(&l, root, other, patterns[i]);
		if (r < 0)
			r = error_set(e, r, "cannot look for %s (Carry=)", patterns[i]);
	}
	if (r < 0) {
		carry_list_free(&l);
		return r;
	}
	*ret = l;
	return 0;
}

static bool is_below(const char *path, const char *directory)
{
	size_t n = strlen(directory);

	return strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

void carry_reduce(struct carry_list *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++) {
		const char *path = l->list[i].path;
		bool covered = false;
		for (size_t j = 0; path && j < l->count && !covered; j++) {
			const struct carry_entry *other = &l->list[j];
			/* Of two that are the same the first stays. */
			covered = j != i && other->path && other->action != CARRY_MISSING &&
				  is_below(path, other->path) &&
				  (j < i || strcmp(path, other->path) != 0);
		}
		if (covered) {
			free(l->list[i].path);
			l->list[i].path = NULL;
		}
	}
	for (size_t i = 0; i < l->count; i++)
		if (l->list[i].path)
			l->list[kept++] = l->list[i];
	l->count = kept;
}

void carry_list_free(struct carry_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->list[i].path);
	free(l->list);
	*l = (struct carry_list){0};
}

const char *carry_action_name(enum carry_action action)
{
	switch (action) {
	case CARRY_COPY:
		return "copy";
	case CARRY_BIND:
		return "bind";
	case CARRY_STAYS:
		return "stays";
	case CARRY_SAME:
		return "same";
	case CARRY_MISSING:
		return "missing";
	}
	return "?";
}

bool carry_kinds_match(mode_t source, mode_t place)
{
	return S_ISDIR(source) == S_ISDIR(place) && !S_ISLNK(source) && !S_ISLNK(place);
}
