/* SPDX-License-Identifier: MIT */
/*
 * Whether an image is the one that runs, however it is named: as a directory, as the device that
 * the root is mounted from, as the file behind its loop device. For the judging child: it opens
 * devices and reads sysfs.
 */
#ifndef MOLT_UPGRADE_IMAGE_RUNNING_H
#define MOLT_UPGRADE_IMAGE_RUNNING_H

#include <stdbool.h>
#include <sys/stat.h>

/*
 * Before it is mounted: `st` is what stat(2) says of the image's path. A device or a file counts
 * if the root lies on it, also through a device mapper. False where that cannot be found out (a
 * btrfs: its device alone does not say which subvolume is meant); then image_is_root() tells.
 */
bool image_is_running(const struct stat *st);

/* Whether the root is read through dm-verity. */
bool image_is_verified(void);

/* Once it is mounted: whether `fd`, the root of a mount, is the same directory as "/". */
bool image_is_root(int fd);

#endif
