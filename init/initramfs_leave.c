/* SPDX-License-Identifier: MIT */
/* What stays of the initramfs: this program and its libraries, in the memory of /run. They were in
 * memory before, so that it costs none. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/initramfs.h"
#include "init/initramfs_exit.h"
#include "kernel/copy.h"
#include "kernel/util.h"

/* A C library, a few more, and a program; a list that is none must not fill the memory. */
#define BYTES_MAX (64ULL * 1024 * 1024)
#define ENTRIES_MAX 200

/* The directory of an entry, with all above it. */
static int open_parent(int place, const char *path)
{
	char part[PATH_MAX];
	int dir = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (const char *slash; dir >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
		(void)snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		int r = mkdirat(dir, part, 0755) < 0 && errno != EEXIST ? -errno : 0;
		int below = r < 0 ? r : openat(dir, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)fd_close(dir);
		dir = below == -1 ? -errno : below;
	}
	return dir == -1 ? -errno : dir;
}

static int leave_one(int place, const char *path, struct copy_budget *budget, struct error *e)
{
	const char *slash = strrchr(path, '/');
	char source[PATH_MAX];

	(void)snprintf(source, sizeof(source), "/%s", path);
	CLEANUP_FD int from = open(source, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return error_set(e, errno, "cannot open %s", source);
	CLEANUP_FD int to = open_parent(place, path);
	if (to < 0)
		return error_set(e, to, "cannot make a place for %s in " INITRAMFS_EXIT, source);
	return copy_entry(from, to, slash ? slash + 1 : path, source, budget, e);
}

static int leave_all(int place, char *list, struct error *e)
{
	struct copy_budget budget = {.bytes = BYTES_MAX, .entries = ENTRIES_MAX};
	char *state = NULL;
	int r = 0;

	for (char *path = strtok_r(list, "\n", &state); r == 0 && path;
		path = strtok_r(NULL, "\n", &state))
		r = leave_one(place, path, &budget, e);
	return r;
}

int initramfs_leave(struct error *e)
{
	static char list[65536];
	ssize_t n = file_read(AT_FDCWD, INITRAMFS_LEAVE, list, sizeof(list));

	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return error_set(e, (int)n, "cannot read " INITRAMFS_LEAVE);
	/* Tried again, it is there in part. */
	int r = copy_remove(AT_FDCWD, INITRAMFS_EXIT);
	if (r < 0 || mkdir(INITRAMFS_EXIT, 0700) < 0)
		return error_set(e, r < 0 ? r : errno, "cannot make " INITRAMFS_EXIT);
	CLEANUP_FD int place = open(INITRAMFS_EXIT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = place < 0 ? error_set(e, errno, "cannot open " INITRAMFS_EXIT)
		      : leave_all(place, list, e);
	/* A part of it would be executed, and fail then. */
	if (r < 0)
		(void)copy_remove(AT_FDCWD, INITRAMFS_EXIT);
	return r;
}
