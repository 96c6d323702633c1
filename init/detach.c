/* SPDX-License-Identifier: MIT */
#include "init/detach.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"

#define LIST_BYTES (64 * 1024)

static int open_block(const char *name)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "/dev/%s", name);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

static bool sys_block_has(const char *name, const char *attribute)
{
	char path[400];

	(void)snprintf(path, sizeof(path), "/sys/block/%s/%s", name, attribute);
	return access(path, F_OK) == 0;
}

static bool clear_loop(const char *name)
{
	CLEANUP_FD int fd = open_block(name);

	return fd >= 0 && ioctl(fd, LOOP_CLR_FD, 0) == 0;
}

/* loop(4). One that is in use answers that it is done, and goes when its user has: which may have
 * been clear_loop(). */
static bool detach_loop(const char *name)
{
	return sys_block_has(name, "loop/backing_file") && clear_loop(name) &&
	       !sys_block_has(name, "loop/backing_file");
}

static bool detach_md(const char *name)
{
	char path[400], state[32] = "";

	(void)snprintf(path, sizeof(path), "/sys/block/%s/md/array_state", name);
	if (file_read(AT_FDCWD, path, state, sizeof(state)) <= 0 || starts_with(state, "clear"))
		return false;
	CLEANUP_FD int fd = open_block(name);
	return fd >= 0 && ioctl(fd, STOP_ARRAY, NULL) == 0;
}

static unsigned detach_by_name(void)
{
	DIR *d = opendir("/sys/block");
	unsigned done = 0;

	for (const struct dirent *e; d && (e = readdir(d));) {
		bool gone = starts_with(e->d_name, "loop") ? detach_loop(e->d_name)
			    : starts_with(e->d_name, "md") ? detach_md(e->d_name)
							   : false;
		if (gone)
			log_info("detached %s", e->d_name);
		done += gone;
	}
	if (d)
		(void)closedir(d);
	return done;
}

static int map_request(int control, unsigned long request, struct dm_ioctl *q, size_t size)
{
	q->version[0] = DM_VERSION_MAJOR;
	q->version[1] = 0;
	q->version[2] = 0;
	q->data_size = (__u32)size;
	q->data_start = sizeof(*q);
	return ioctl(control, request, q) < 0 ? -errno : 0;
}

static bool remove_map(int control, const char *name)
{
	struct dm_ioctl q = {0};

	(void)snprintf(q.name, sizeof(q.name), "%s", name);
	return map_request(control, DM_DEV_REMOVE, &q, sizeof(q)) == 0;
}

/* linux/dm-ioctl.h: each says how far the next is, in bytes. */
static unsigned detach_maps(void)
{
	static union {
		struct dm_ioctl head;
		char room[LIST_BYTES];
	} q;
	CLEANUP_FD int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	unsigned done = 0;
	size_t at;

	memset(&q, 0, sizeof(q));
	if (control < 0 || map_request(control, DM_LIST_DEVICES, &q.head, sizeof(q)) < 0)
		return 0;
	for (at = q.head.data_start; at + sizeof(struct dm_name_list) < q.head.data_size;) {
		const struct dm_name_list *m = (const void *)(q.room + at);
		if (!m->dev)
			break;
		if (remove_map(control, m->name)) {
			log_info("detached %s", m->name);
			done++;
		}
		if (!m->next)
			break;
		at += m->next;
	}
	return done;
}

unsigned detach_devices(void)
{
	return detach_maps() + detach_by_name();
}
