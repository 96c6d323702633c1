/* SPDX-License-Identifier: MIT */
/*
 * Freezer flags that must get their value whatever happens: what cannot be written now is written
 * as soon as it can be. As long as one is not, no upgrade begins and PID 1 does not exec, which
 * would forget it.
 */
#ifndef MOLT_UPGRADE_SETTLE_H
#define MOLT_UPGRADE_SETTLE_H

#include <stdbool.h>

/* Writes the flag, a few times if need be. 0 or negative errno; -ENODEV: the cgroup is gone. */
int settle_try(int flag_fd, bool freeze);

/* Sees to it, now or later; the descriptor of a cgroup.freeze stays the caller's. `name` is for the
 * log. */
void settle_cgroup(int flag_fd, bool freeze, const char *name);

bool settle_is_done(void);

#endif
