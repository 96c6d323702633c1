/* SPDX-License-Identifier: MIT */
#include "kernel/features.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/mount.h has it since 5.15. */
#define MOVE_MOUNT_SET_GROUP_FLAG 0x100

static void add(char *text, size_t size, const char *name)
{
	size_t used = strlen(text);

	(void)snprintf(text + used, size - used, "%s%s", used ? ", " : "", name);
}

void features_missing(int cgroup, char *text, size_t size)
{
	text[0] = '\0';
	/* Nothing is there to be changed or moved: a kernel that knows the call says EBADF. */
	if (syscall(SYS_mount_setattr, -1, "", AT_EMPTY_PATH, NULL, 0) < 0 && errno == ENOSYS)
		add(text, size, "mount_setattr(2)");
	/* Unknown flags are looked for before anything else. */
	if (syscall(SYS_move_mount, -1, "", -1, "", MOVE_MOUNT_SET_GROUP_FLAG) < 0 &&
		errno == EINVAL)
		add(text, size, "MOVE_MOUNT_SET_GROUP of move_mount(2)");
	if (cgroup >= 0 && faccessat(cgroup, "cgroup.kill", F_OK, 0) < 0 && errno == ENOENT)
		add(text, size, "cgroup.kill");
}
