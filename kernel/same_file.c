/* SPDX-License-Identifier: MIT */
#include "kernel/same_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FLAGS (AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC)

int same_file(int any_dir, const char *any, int ours_dir, const char *ours)
{
	struct statx a, b;

	/* The device comes in any case; asked for nothing else, FUSE gives it to everybody. */
	if (statx(any_dir, any, FLAGS, 0, &a) < 0 || statx(ours_dir, ours, FLAGS, 0, &b) < 0)
		return -errno;
	if (a.stx_dev_major != b.stx_dev_major || a.stx_dev_minor != b.stx_dev_minor)
		return 0;
	if (statx(any_dir, any, FLAGS, STATX_INO, &a) < 0 ||
		statx(ours_dir, ours, FLAGS, STATX_INO, &b) < 0)
		return -errno;
	return a.stx_ino == b.stx_ino;
}
