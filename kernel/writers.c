/* SPDX-License-Identifier: MIT */
#include "kernel/writers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIES_MAX 5

static int set_attributes(int mount_fd, struct mount_attr *attributes)
{
	return syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, attributes,
		       sizeof(*attributes)) < 0
		       ? -errno
		       : 0;
}

int mount_has_writers(int mount_fd)
{
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	struct mount_attr writable = {.attr_clr = MOUNT_ATTR_RDONLY};
	struct statvfs st;

	if (fstatvfs(mount_fd, &st) < 0)
		return -errno;
	if (st.f_flag & ST_RDONLY)
		return 0; /* it could not have become so with writers */
	int r = set_attributes(mount_fd, &read_only);
	if (r < 0)
		return r == -EBUSY ? 1 : r;
	/* It must not stay so, whatever it takes. */
	for (int i = 0; i < TRIES_MAX; i++) {
		r = set_attributes(mount_fd, &writable);
		if (r == 0)
			return 0;
	}
	return r;
}
