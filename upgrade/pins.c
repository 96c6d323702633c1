/* SPDX-License-Identifier: MIT */
#include "upgrade/pins.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/mounts.h"
#include "kernel/util.h"

/* Of the kernel's own file system that namespaces are the files of (nsfs): there is one. */
static dev_t namespace_dev;

int pins_init(void)
{
	struct stat st;

	if (stat("/proc/self/ns/mnt", &st) < 0)
		return -errno;
	namespace_dev = st.st_dev;
	return 0;
}

/* Bind mounts: mountinfo shows what of nsfs is mounted as "mnt:[NUMBER]". */

int pins_of_mounts(int watch, pin_mount_found found, void *userdata, struct error *e)
{
	struct mount_table table = {0};
	int r = mount_table_read_watched(watch, &table, e);

	for (size_t i = 0; r == 0 && i < table.count; i++) {
		const struct mount *m = &table.mounts[i];
		uint64_t id;
		if (strcmp(m->fstype, "nsfs") == 0 &&
			sscanf(m->root, "mnt:[%" SCNu64 "]", &id) == 1)
			r = found(id, m->target, userdata);
	}
	mount_table_free(&table);
	return r;
}

/* Descriptors */

struct task_job {
	pid_t tid;
	pin_descriptor_found found;
	void *userdata;
};

bool pin_is_namespace(const struct proc_fd *fd)
{
	return fd->dev == namespace_dev && namespace_dev != 0;
}

bool pin_is_mount_ns(pid_t tid, int fd)
{
	char link[32], text[64];

	(void)snprintf(link, sizeof(link), "fd/%d", fd);
	return proc_link_text(tid, link, text, sizeof(text)) == 0 && starts_with(text, "mnt:[");
}

static int look_at_fd(const struct proc_fd *fd, void *userdata)
{
	const struct task_job *job = userdata;

	if (!pin_is_namespace(fd) || !pin_is_mount_ns(job->tid, fd->fd))
		return 0;
	return job->found(fd->ino, job->tid, fd->fd, job->userdata);
}

int pins_of_task(pid_t tid, pin_descriptor_found found, void *userdata)
{
	struct task_job job = {tid, found, userdata};
	int r = proc_fds(tid, look_at_fd, &job);

	return proc_is_gone(r) || r == -EACCES ? 0 : r;
}

/* Opening: first without opening, for meanwhile it may be anything, a device or a fifo. */

static int open_if_it_is(int proc, int found, uint64_t id)
{
	char path[32];
	struct stat st;

	if (fstat(found, &st) < 0)
		return -errno;
	if (st.st_dev != namespace_dev || st.st_ino != id)
		return -ESTALE;
	(void)snprintf(path, sizeof(path), "self/fd/%d", found);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pin_open_descriptor(pid_t tid, int fd, uint64_t id)
{
	char path[48];
	CLEANUP_FD int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (proc < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "%d/fd/%d", (int)tid, fd);
	CLEANUP_FD int found = openat(proc, path, O_PATH | O_CLOEXEC);
	if (found < 0)
		return errno == ENOENT || errno == ESRCH ? -ESTALE : -errno;
	return open_if_it_is(proc, found, id);
}

int pin_open_mount(int proc, const char *path, uint64_t id)
{
	CLEANUP_FD int found = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);

	if (found < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	return open_if_it_is(proc, found, id);
}
