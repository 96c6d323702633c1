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
#include <stddef.h>

#include "kernel/inject.h"

/* Releases it, now or as soon as it answers. Takes it over; NULL is fine. */
void limbo_release(struct inject_target *t);
/* No task, and no cgroup (settle.h), is left as it must not stay. */
bool limbo_is_empty(void);
/* 0 if so; else -EBUSY, with who it is and what to do. */
int limbo_refuse(struct error *e);
/* Who it is, for a person: "process 12 (x) does not answer: it is ...". */
void limbo_say(char *buf, size_t size);
/* A task that has run calls of ours still has our registers, or a cgroup is not as it was: the next
 * life knows neither what they were nor which one. */
bool limbo_bars_exec(void);
/*
 * It was waited for long enough: nothing bars the exec any more. Such a task's process is killed:
 * left to itself it would run with registers that are not its own. The cgroups are left to the next
 * life.
 */
void limbo_give_up(void);
/* After a crash, or an exec meanwhile: lets go of whatever in the tree we trace and know nothing
 * more of. */
void limbo_release_strays(int tree);

#endif
