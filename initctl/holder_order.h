/* SPDX-License-Identifier: MIT */
/* Holders in the order in which people read them: by service, by process, alike together. */
#ifndef MOLT_INITCTL_HOLDER_ORDER_H
#define MOLT_INITCTL_HOLDER_ORDER_H

#include "initctl/answer.h"

/* Members begin..end of a sorted array are alike. */
struct run {
	const struct record **begin;
	const struct record **end;
};

/* All holders of an answer, sorted: services first, then processes in other cgroups, then those of
 * none. NULL-ended, the caller's to free. */
const struct record **sorted_holders(const struct answer *a, size_t *ret_count);

/* 0: of the same service or cgroup; of the same process; alike in all but what they hold. */
int compare_units(const struct record *a, const struct record *b);
int compare_processes(const struct record *a, const struct record *b);
int compare_holders(const struct record *a, const struct record *b);

/* The longest run from `begin` (in a NULL-ended array) whose members `compare` finds alike. */
struct run next_run(
	const struct record **begin, int (*compare)(const struct record *, const struct record *));

/* Whose session it is, where it is no service and not root's: a name, the caller's to free; or
 * NULL. */
char *holder_user(const struct record *r);
/* "812 (tmux, of alice)"; the caller's to free. */
char *holder_name(const struct record *r);

#endif
