/* SPDX-License-Identifier: MIT */
#ifndef MOLT_UPGRADE_MOUNT_OPEN_H
#define MOLT_UPGRADE_MOUNT_OPEN_H

#include "kernel/mounts.h"

/*
 * Opens (O_PATH) what is mounted at m->target, for moving it: m itself or what is stacked on it. An
 * automount is not triggered; where one is under way it is not waited for, but -ETIMEDOUT. Or
 * another negative errno.
 */
int mount_open(const struct mount *m);

#endif
