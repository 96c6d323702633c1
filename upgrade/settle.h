/* SPDX-License-Identifier: MIT */
/*
 * Freezer flags that must get their value whatever happens: what cannot be written now is written
 * as soon as it can be. As long as one is not, no upgrade begins, and PID 1 is in no hurry to exec:
 * the next life goes on with it, if it is of a version that knows of this.
 */
#ifndef MOLT_UPGRADE_SETTLE_H
#define MOLT_UPGRADE_SETTLE_H

#include <stdbool.h>

#include "conf/record.h"

/* Writes the flag, a few times if need be. 0 or negative errno; -ENODEV: the cgroup is gone. */
int settle_try(int flag_fd, bool freeze);

/* Sees to it, now or later; the descriptor of a cgroup.freeze stays the caller's. `name` is for the
 * log. */
void settle_cgroup(int flag_fd, bool freeze, const char *name);

bool settle_is_done(void);

/* State across an exec, in the record that is open. */
void settle_save(struct record_writer *w);
void settle_load(const struct record *r);
void settle_each_fd(int (*visit)(int fd));

#endif
