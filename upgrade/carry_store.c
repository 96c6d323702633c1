/* SPDX-License-Identifier: MIT */
#include "upgrade/carry_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "kernel/util.h"
#include "upgrade/pivot.h"
#include "upgrade/place.h"

/* It, or what there is of the way to it. */
static int open_nearest(const char *path, struct error *e)
{
	char buf[PATH_MAX];

	(void)snprintf(buf, sizeof(buf), "%s", path);
	for (;;) {
		int fd = open(buf, O_PATH | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		char *slash = strrchr(buf, '/');
		if (errno != ENOENT || !slash || slash == buf)
			return error_set(e, errno, "cannot open CarryDirectory=%s", path);
		*slash = '\0';
	}
}

int carry_store_check(const char *directory, const struct mount_table *mounts, uint64_t root_mount,
	const char *leave, struct error *e)
{
	CLEANUP_FD int fd = open_nearest(directory, e);
	uint64_t id;
	const struct mount *m;
	struct statvfs fs;

	if (fd < 0)
		return fd;
	int r = mount_id_of_fd(fd, &id);
	if (r < 0 || fstatvfs(fd, &fs) < 0)
		return error_set(
			e, r < 0 ? r : errno, "cannot look at CarryDirectory=%s", directory);
	m = mount_table_find(mounts, id);
	bool on_image =
		m && leave[0] && (strcmp(m->target, leave) == 0 || path_is_below(m->target, leave));
	if (id == root_mount || on_image)
		return error_say(e, EINVAL,
			"CarryDirectory=%s lies on %s, which does not come along to the new image (it has to be on a mount of its own, such as /var)",
			directory, id == root_mount ? "the running image itself" : "the new image");
	if (fs.f_flag & ST_RDONLY)
		return error_say(e, EROFS, "CarryDirectory=%s cannot be written to", directory);
	return 0;
}

int carry_store_open(const char *directory)
{
	return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int make_all(const char *path)
{
	char buf[PATH_MAX];

	(void)snprintf(buf, sizeof(buf), "%s", path);
	for (char *p = strchr(buf + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(buf, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	/* Not for everybody: there are keys in it. */
	return mkdir(buf, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int carry_store_make(const char *directory, struct error *e)
{
	int r = make_all(directory);

	if (r < 0)
		return error_set(e, r, "cannot make CarryDirectory=%s", directory);
	int fd = carry_store_open(directory);
	return fd < 0 ? error_set(e, errno, "cannot open CarryDirectory=%s", directory) : fd;
}

bool carry_store_has(int store, const char *path, struct stat *ret)
{
	struct stat st;
	CLEANUP_FD int fd = store < 0 ? -1 : open_in_root(store, path, O_PATH | O_NOFOLLOW);

	/* Nothing else can be mounted over a file of the image. */
	if (fd < 0 || fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return false;
	if (ret)
		*ret = st;
	return true;
}

int carry_store_clone(int store, const char *path, struct error *e)
{
	CLEANUP_FD int stored = open_in_root(store, path, O_PATH | O_NOFOLLOW);

	if (stored < 0)
		return error_set(e, stored, "cannot open the carried %s", path);
	int mount = mount_clone_fd(stored);
	return mount < 0 ? error_set(e, mount, "cannot take a mount of the carried %s", path)
			 : mount;
}
