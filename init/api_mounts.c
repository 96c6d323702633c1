/* SPDX-License-Identifier: MIT */
/* The file systems that are the kernel's own face. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init/boot.h"
#include "init/system.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/util.h"

struct api_mount {
	const char *target, *type, *options;
	unsigned long flags;
};

static const struct api_mount MOUNTS[] = {
	{"/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"/dev", "devtmpfs", "mode=0755", MS_NOSUID},
	{"/dev/pts", "devpts", "gid=5,mode=0620,ptmxmode=0666", MS_NOSUID | MS_NOEXEC},
	{"/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
	{"/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV},
	{CGROUP_ROOT, "cgroup2", "nsdelegate,memory_recursiveprot",
		MS_NOSUID | MS_NODEV | MS_NOEXEC},
};

#define HARDLY_ANYTHING (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* What a machine's kernel may have, and programs look for where it is usually mounted. The places
 * below /sys are the kernel's: where one is missing, so is what it is for. */
static const struct api_mount OPTIONAL[] = {
	{"/sys/kernel/security", "securityfs", NULL, HARDLY_ANYTHING},
	{"/sys/kernel/debug", "debugfs", "mode=0700", HARDLY_ANYTHING},
	{"/sys/kernel/tracing", "tracefs", "mode=0700", HARDLY_ANYTHING},
	{"/sys/kernel/config", "configfs", NULL, HARDLY_ANYTHING},
	{"/sys/fs/bpf", "bpf", "mode=0700", HARDLY_ANYTHING},
	{"/sys/fs/pstore", "pstore", NULL, HARDLY_ANYTHING},
	{"/sys/fs/fuse/connections", "fusectl", NULL, HARDLY_ANYTHING},
	{"/sys/firmware/efi/efivars", "efivarfs", NULL, HARDLY_ANYTHING},
	{"/dev/mqueue", "mqueue", NULL, HARDLY_ANYTHING},
	{"/dev/hugepages", "hugetlbfs", NULL, MS_NOSUID | MS_NODEV},
};

static bool is_mounted(const char *path)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) <
		0) {
		if (errno == ENOENT)
			return false;
		/* Mounted once more, it would hide what a life before has there. */
		log_error("cannot tell whether %s is mounted: %s", path, strerror(errno));
		return true;
	}
	return (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int mount_one(const struct api_mount *m)
{
	(void)mkdir(m->target, 0755); /* on a read-only root it must be there */
	if (mount(m->type, m->target, m->type, m->flags, m->options) == 0)
		return 0;
	/* An older kernel, or a namespace, may not know the options. */
	return errno == EINVAL && mount(m->type, m->target, m->type, m->flags, NULL) == 0 ? 0
											  : -errno;
}

/* Not what would have to be loaded for it: a mount(2) of that waits for modprobe(8). */
static bool kernel_has(const char *type)
{
	CLEANUP_FREE char *line = NULL;
	size_t size = 0;
	FILE *list = fopen("/proc/filesystems", "re");
	bool found = false;

	while (list && !found && getline(&line, &size, list) > 0) {
		char *name = strrchr(line, '\t');
		line[strcspn(line, "\n")] = '\0';
		found = name && strcmp(name + 1, type) == 0;
	}
	if (list)
		(void)fclose(list);
	return found;
}

static void mount_optional(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(OPTIONAL); i++) {
		const struct api_mount *m = &OPTIONAL[i];
		if (!kernel_has(m->type) || is_mounted(m->target))
			continue;
		int r = mount_one(m);
		if (r < 0 && r != -ENOENT && r != -EPERM)
			log_info("cannot mount %s on %s: %s", m->type, m->target, strerror(-r));
	}
}

/* A kernel that finds no /dev/console leaves 0 to 2 closed: the next descriptors opened would be
 * taken for them. */
static void fill_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	(void)fd_close(fd);
}

void boot_mount_kernel_file_systems(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(MOUNTS); i++) {
		int r = is_mounted(MOUNTS[i].target) ? 0 : mount_one(&MOUNTS[i]);
		if (r < 0)
			log_error("cannot mount %s on %s: %s", MOUNTS[i].type, MOUNTS[i].target,
				strerror(-r));
	}
	/* Of a container they are its host's. */
	if (sys.real)
		mount_optional();
	fill_standard_streams();
	if (mkdir("/run/molt", 0755) < 0 && errno != EEXIST)
		log_error("cannot make /run/molt: %s", strerror(errno));
	log_open_file();
}
