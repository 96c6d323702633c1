/* SPDX-License-Identifier: MIT */
/*
 * Where a mount goes on the new image: the path that it has now, which has to be there as it is;
 * or, where the image has a symbolic link on the way, where that leads (/var/run on an image that
 * has it as a link to /run). That may be inside another mount that is moved.
 */
#ifndef MOLT_UPGRADE_PLACE_H
#define MOLT_UPGRADE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/error.h"

struct pivot;
struct pivot_mount;

/*
 * Opens the directory (or file) that is `path` on the image at `root`, with symbolic links kept
 * inside of it. O_PATH unless `flags` say otherwise. A descriptor or negative errno.
 */
int open_in_root(int root, const char *path, uint64_t flags);

/*
 * Opens the place for a mount: `path` itself, no symbolic link on the way (-ELOOP). A descriptor or
 * negative errno with text.
 */
int open_mount_point(int root, const char *path, struct error *e);

/* Whether a missing place could be made on the image at `root`. */
bool can_make_mount_point(int root);
/* Makes it, a directory or (if the mount's root is one) an empty file, and what leads to it. Opens
 * it; a descriptor or negative errno with text. */
int make_mount_point(int root, const char *path, int mount, struct error *e);

/* Whether `path` lies below `above`: not if they are the same. Both are absolute and clean. */
bool path_is_below(const char *path, const char *above);

/*
 * Fills in place, inside and to of each mount of p. What is missing on the image is made if
 * p->may_make, or left for later (to is -1) where it could be. 0, or negative errno with text: a
 * mount has no place, or two have the same.
 */
int place_all(struct pivot *p, struct error *e);

/* Opens the place of one that has been filled in. A descriptor or negative errno with text. */
int place_open(const struct pivot *p, const struct pivot_mount *m, struct error *e);

#endif
