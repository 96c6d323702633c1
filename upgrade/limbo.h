/* SPDX-License-Identifier: MIT */
/*
 * Tasks that were seized and would not stop, so that they could not be let go either
 * (inject_release()): they would stand still at their first chance, for ever. Here they are waited
 * for and released then. As long as one is left no upgrade begins, and PID 1
 * does not exec if that would forget what only this life can put back.
 */
#ifndef MOLT_UPGRADE_LIMBO_H
#define MOLT_UPGRADE_LIMBO_H

#include <stdbool.h>

#include "kernel/inject.h"

/* Releases it, now or as soon as it answers. Takes it over; NULL is fine. */
void limbo_release(struct inject_target *t);
/* No task, and no cgroup (settle.h), is left as it must not stay. */
bool limbo_is_empty(void);
/* A task that has run calls of ours still has our registers, or a cgroup is not as it was: the next
 * life knows neither what they were nor which one. */
bool limbo_bars_exec(void);
/* After a crash: lets go of whatever in the tree we trace and know nothing more of. */
void limbo_release_strays(int tree);

#endif
