/* SPDX-License-Identifier: MIT */
/* Of whoever is dead and reaped, whose pid says nothing any more: what its pidfd remembers. */
#include "kernel/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/util.h"

/* PIDFD_GET_INFO of <linux/pidfd.h>, Linux 6.13, in its first size; the fields of its first 64
 * bytes that are asked for. Older headers lack it. */
struct info {
	uint64_t mask;
	uint64_t cgroup;
	char more[48];
};
#define GET_INFO _IOWR(0xFF, 11, struct info)
#define INFO_CGROUP (1U << 2)
#define INFO_EXIT (1U << 3) /* Linux 6.15: only of one that is reaped */

/* A handle of a cgroup is its number: FILEID_KERNFS of <linux/exportfs.h>. */
#define HANDLE_KERNFS 0xfe
struct handle {
	struct file_handle header;
	uint64_t number;
};

static int id_of_dead(int pidfd, uint64_t *ret)
{
	struct info info = {.mask = INFO_CGROUP | INFO_EXIT};

	if (ioctl(pidfd, GET_INFO, &info) < 0)
		return errno == ENOTTY || errno == EINVAL ? -ENOTSUP : -errno;
	if (!(info.mask & INFO_EXIT))
		return -EBUSY;
	if (!(info.mask & INFO_CGROUP))
		return -ENODATA;
	*ret = info.cgroup;
	return 0;
}

static ssize_t path_of(int fd, char *buf, size_t size)
{
	char link[40];

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int cgroup_of_dead(int pidfd, int cgroup, char *buf, size_t size)
{
	union {
		struct handle handle;
		char room[sizeof(struct handle) + sizeof(uint64_t)];
	} h = {.handle.header = {.handle_bytes = sizeof(uint64_t), .handle_type = HANDLE_KERNFS}};
	char above[PATH_MAX], path[PATH_MAX];
	uint64_t id = 0;
	int r = id_of_dead(pidfd, &id);

	if (r < 0)
		return r;
	memcpy(h.handle.header.f_handle, &id, sizeof(id));
	CLEANUP_FD int fd = open_by_handle_at(cgroup, &h.handle.header, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = path_of(cgroup, above, sizeof(above));
	ssize_t length = n < 0 ? n : path_of(fd, path, sizeof(path));
	if (length < 0)
		return (int)length;
	if (strncmp(path, above, (size_t)n) != 0 || path[n] != '/')
		return -EXDEV;
	if ((size_t)(length - n) >= size)
		return -ENAMETOOLONG;
	memcpy(buf, path + n + 1, (size_t)(length - n));
	return 0;
}
