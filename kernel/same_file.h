/* SPDX-License-Identifier: MIT */
#ifndef MOLT_KERNEL_SAME_FILE_H
#define MOLT_KERNEL_SAME_FILE_H

/*
 * Whether two paths lead to the same file or directory; "" is the descriptor before it itself. The
 * file systems are only asked if they are one and the same: that of the first may be any, with a
 * server that does not answer (FUSE), or that answers its own user alone. 1, 0 or negative errno.
 */
int same_file(int any_dir, const char *any, int ours_dir, const char *ours);

#endif
