/* SPDX-License-Identifier: MIT */
#include "kernel/mount_ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "kernel/util.h"

int mount_ns_id(pid_t tid, uint64_t *ret_id)
{
	char path[48];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)tid);
	if (stat(path, &st) < 0)
		return -errno;
	*ret_id = st.st_ino;
	return 0;
}

int mount_ns_open(pid_t tid)
{
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int mount_ns_is_ours(int fd, bool *ret)
{
	static struct stat own; /* asked once: where a child goes, there need be no /proc */
	struct stat owner;
	CLEANUP_FD int user = ioctl(fd, NS_GET_USERNS);

	if (user < 0 && errno == EPERM) { /* an ancestor of ours owns it */
		*ret = false;
		return 0;
	}
	if (user < 0 || fstat(user, &owner) < 0 ||
		(!own.st_ino && stat("/proc/self/ns/user", &own) < 0))
		return -errno;
	*ret = owner.st_ino == own.st_ino;
	return 0;
}

int mount_ns_enter(int fd)
{
	return setns(fd, CLONE_NEWNS) < 0 ? -errno : 0;
}
