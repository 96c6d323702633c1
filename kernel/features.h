/* SPDX-License-Identifier: MIT */
/* What the running kernel lacks of what molt wants: asked of the kernel, not read from its version.
 */
#ifndef MOLT_KERNEL_FEATURES_H
#define MOLT_KERNEL_FEATURES_H

#include <stddef.h>

/* The oldest kernel that has all of it. */
#define FEATURES_SINCE "5.15"

/*
 * Names what is missing, "mount_setattr(2), cgroup.kill", cut at `size`; "" if nothing is. `cgroup`
 * is a descriptor of any but the root cgroup, or -1: then those are not looked at.
 */
void features_missing(int cgroup, char *text, size_t size);

#endif
