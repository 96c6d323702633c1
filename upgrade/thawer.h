/* SPDX-License-Identifier: MIT */
/*
 * PID 1 itself may come to wait for somebody who is frozen: the daemon of a file system that it
 * opens something on. A child outside the tree thaws everything then, in any case; what PID 1 wakes
 * up to is a deadline that has passed.
 */
#ifndef MOLT_UPGRADE_THAWER_H
#define MOLT_UPGRADE_THAWER_H

#include <stdint.h>

/* Before the freeze: `tree` is thawed unless thawer_stop() is called within that time. Without a
 * child (no memory) it goes without. */
void thawer_start(int tree, uint64_t usec);
/* That cgroup (relative to the tree) is going to be frozen by its own flag, and is thawed as well.
 */
void thawer_note(const char *path);
void thawer_stop(void);

#endif
