/* SPDX-License-Identifier: MIT */
#include "upgrade/hook_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/util.h"
#include "upgrade/pivot.h"

/* The first that has a name decides about it. */
static const char *const PLACES[] = {"/etc/molt", "/usr/lib/molt"};

const char *hook_kind_name(enum hook_kind kind)
{
	switch (kind) {
	case HOOK_PRE_UPGRADE:
		return "pre-upgrade";
	case HOOK_POST_PIVOT:
		return "post-pivot";
	case HOOK_COMMIT:
		return "commit";
	case HOOK_BOOT_GOOD:
		return "boot-good";
	}
	return "?";
}

/* Whether a file of that name is a hook at all. */
static bool hook_name_counts(const char *name)
{
	static const char *const LEFT_OVER[] = {"~", ".bak", ".orig", ".rej", ".swp", ".dpkg-old",
		".dpkg-new", ".dpkg-dist", ".dpkg-bak", ".dpkg-backup", ".dpkg-tmp", ".ucf-old",
		".ucf-new", ".ucf-dist", ".rpmsave", ".rpmorig", ".rpmnew"};

	if (name[0] == '.' || name[0] == '\0')
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(LEFT_OVER); i++)
		if (ends_with(name, LEFT_OVER[i]))
			return false;
	return true;
}

/* What a reading of the list has come to: every name seen, masked ones too. */
struct reading {
	char *names[HOOKS_MAX], *paths[HOOKS_MAX]; /* no path: it is none after all */
	size_t count;
	int root;
	void (*warn)(void *userdata, const char *text);
	void *userdata;
};

static bool is_seen(const struct reading *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->names[i], name) == 0)
			return true;
	return false;
}

static bool is_masked(int directory, const char *name)
{
	char target[16];
	ssize_t n = readlinkat(directory, name, target, sizeof(target));

	return n == (ssize_t)strlen("/dev/null") && memcmp(target, "/dev/null", (size_t)n) == 0;
}

static void warn(const struct reading *r, const char *path, const char *why)
{
	char text[PATH_MAX + 100];

	(void)snprintf(text, sizeof(text), "%s is left out: %s", path, why);
	r->warn(r->userdata, text);
}

/* Whether it can be run; says why if not. */
static bool is_runnable(const struct reading *r, const char *path)
{
	struct stat st;
	CLEANUP_FD int fd = open_in_root(r->root, path, O_PATH);

	if (fd < 0) {
		warn(r, path, strerror(-fd));
		return false;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		warn(r, path, "it is no file");
		return false;
	}
	if (!(st.st_mode & 0111)) {
		warn(r, path, "it is not executable (chmod +x)");
		return false;
	}
	return true;
}

static int add(
	struct reading *r, int directory, const char *place, const char *name, struct error *e)
{
	char *path = NULL;

	if (r->count == HOOKS_MAX)
		return error_say(e, E2BIG, "%s has more than %d hooks", place, HOOKS_MAX);
	if (asprintf(&path, "%s/%s", place, name) < 0)
		return error_set(e, ENOMEM, "cannot list the hooks");
	if (is_masked(directory, name) || !is_runnable(r, path)) {
		free(path);
		path = NULL;
	}
	r->names[r->count] = strdup(name);
	if (!r->names[r->count]) {
		free(path);
		return error_set(e, ENOMEM, "cannot list the hooks");
	}
	r->paths[r->count++] = path;
	return 0;
}

static int read_place(struct reading *r, const char *place, struct error *e)
{
	int fd = open_in_root(r->root, place, O_RDONLY | O_DIRECTORY | O_NONBLOCK), result = 0;
	struct dirent *d;

	if (fd == -ENOENT)
		return 0;
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (!directory) {
		result = fd < 0 ? fd : -errno;
		(void)fd_close(fd);
		return error_set(e, result, "cannot read the hooks in %s", place);
	}
	while (result == 0 && (errno = 0, d = readdir(directory)))
		if (hook_name_counts(d->d_name) && !is_seen(r, d->d_name))
			result = add(r, dirfd(directory), place, d->d_name, e);
	if (result == 0 && errno)
		result = error_set(e, errno, "cannot read the hooks in %s", place);
	(void)closedir(directory);
	return result;
}

static const char *base_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

static int compare(const void *a, const void *b)
{
	const char *const *left = a, *const *right = b;

	return strcmp(base_name(*left), base_name(*right));
}

bool hook_list_may_have(enum hook_kind kind)
{
	char place[64];

	for (size_t i = 0; i < ARRAY_SIZE(PLACES); i++) {
		(void)snprintf(place, sizeof(place), "%s/%s.d", PLACES[i], hook_kind_name(kind));
		if (access(place, F_OK) == 0)
			return true;
	}
	return false;
}

int hook_list_read(struct hook_list *ret, int root, enum hook_kind kind,
	void (*warn_hook)(void *userdata, const char *text), void *userdata, struct error *e)
{
	struct reading r = {.root = root, .warn = warn_hook, .userdata = userdata};
	char place[64];
	int result = 0;

	*ret = (struct hook_list){0};
	for (size_t i = 0; result == 0 && i < ARRAY_SIZE(PLACES); i++) {
		(void)snprintf(place, sizeof(place), "%s/%s.d", PLACES[i], hook_kind_name(kind));
		result = read_place(&r, place, e);
	}
	for (size_t i = 0; i < r.count; i++) {
		free(r.names[i]);
		if (r.paths[i])
			ret->paths[ret->count++] = r.paths[i];
	}
	qsort(ret->paths, ret->count, sizeof(ret->paths[0]), compare);
	return result;
}

void hook_list_free(struct hook_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->paths[i]);
	*l = (struct hook_list){0};
}
