/* SPDX-License-Identifier: MIT */
/* Making the place for a mount where the image has none. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/pivot.h"

bool can_make_mount_point(int root)
{
	struct statvfs fs;

	return fstatvfs(root, &fs) == 0 && !(fs.f_flag & ST_RDONLY);
}

/* What the kernel knows of it already: a file system whose server does not answer is not asked. */
static bool is_directory(int mount)
{
	struct statx st;

	return statx(mount, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0 ||
	       S_ISDIR(st.stx_mode);
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
	int r = make_all(root, copy, is_directory(mount));
	if (r < 0)
		return error_set(
			e, r, "cannot make a place for the mount at %s in the image", path);
	log_notice("made a place for the mount at %s in the image", path);
	return open_mount_point(root, path, e);
}
