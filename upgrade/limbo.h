/* SPDX-License-Identifier: MIT */
/*
 * Tasks that were seized and would not stop, so that they could not be let go either
 * (inject_release()): they would stand still at their first chance, for ever. Here they are waited
 * for and released then. As long as one is left no upgrade begins and PID 1 does not exec, which
 * would forget it.
 */
#ifndef MOLT_UPGRADE_LIMBO_H
#define MOLT_UPGRADE_LIMBO_H

#include <stdbool.h>

#include "kernel/inject.h"

/* Releases it, now or as soon as it answers. Takes it over; NULL is fine. */
void limbo_release(struct inject_target *t);
/* No task, and no cgroup (settle.h), is left as it must not stay. */
bool limbo_is_empty(void);
/* After a crash: lets go of whatever in the tree we trace and know nothing more of. */
void limbo_release_strays(int tree);

#endif
