/* SPDX-License-Identifier: MIT */
#include "upgrade/image_running.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "kernel/util.h"

/* A device mapper over a device mapper over ...: nobody stacks that many. */
#define DEPTH_MAX 8

/* "/sys/dev/block/7:0/NAME" */
static void sysfs_path(dev_t device, const char *name, char buf[64])
{
	(void)snprintf(buf, 64, "/sys/dev/block/%u:%u/%s", major(device), minor(device), name);
}

/* Opens the device by the name that the kernel gives it in /dev. */
static int open_device(dev_t device)
{
	char path[64], text[4096], name[300], *line;

	sysfs_path(device, "uevent", path);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0 ||
		!(line = strstr(text, "DEVNAME=")))
		return -1;
	line += strlen("DEVNAME=");
	line[strcspn(line, "\n")] = '\0';
	(void)snprintf(name, sizeof(name), "/dev/%s", line);
	return open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static bool is_loop_of(dev_t device, const struct stat *file)
{
	struct loop_info64 info;

	if (major(device) != LOOP_MAJOR)
		return false;
	CLEANUP_FD int fd = open_device(device);
	/* The file's own numbers: its path may lead somewhere else by now. */
	return fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
	       info.lo_inode == file->st_ino && (dev_t)info.lo_device == file->st_dev;
}

static bool parse_device(const char *text, dev_t *ret)
{
	unsigned a, b;

	if (sscanf(text, "%u:%u", &a, &b) != 2)
		return false;
	*ret = makedev(a, b);
	return true;
}

static bool lies_on(dev_t device, const struct stat *image, unsigned depth);

/* Through a device mapper: what it maps to are its slaves. */
static bool slaves_lie_on(dev_t device, const struct stat *image, unsigned depth)
{
	char path[64], text[64], name[300];
	struct dirent *entry;
	bool found = false;

	sysfs_path(device, "slaves", path);
	DIR *dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		dev_t slave;
		(void)snprintf(name, sizeof(name), "%s/dev", entry->d_name);
		found = entry->d_name[0] != '.' &&
			file_read(dirfd(dir), name, text, sizeof(text)) > 0 &&
			parse_device(text, &slave) && lies_on(slave, image, depth + 1);
	}
	(void)closedir(dir);
	return found;
}

static bool lies_on(dev_t device, const struct stat *image, unsigned depth)
{
	if (depth > DEPTH_MAX)
		return false;
	if (S_ISBLK(image->st_mode) ? device == image->st_rdev : is_loop_of(device, image))
		return true;
	return slaves_lie_on(device, image, depth);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool image_is_running(const struct stat *st)
{
	struct stat root;

	if (stat("/", &root) < 0)
		return false;
	if (S_ISDIR(st->st_mode))
		return is_same(st, &root);
	return (S_ISBLK(st->st_mode) || S_ISREG(st->st_mode)) && lies_on(root.st_dev, st, 0);
}

bool image_is_verified(void)
{
	struct stat root;
	char path[64], uuid[200];

	if (stat("/", &root) < 0)
		return false;
	sysfs_path(root.st_dev, "dm/uuid", path);
	return file_read(AT_FDCWD, path, uuid, sizeof(uuid)) > 0 &&
	       starts_with(uuid, "CRYPT-VERITY-");
}

bool image_is_root(int fd)
{
	struct stat st, root;

	return fstat(fd, &st) == 0 && stat("/", &root) == 0 && is_same(&st, &root);
}
