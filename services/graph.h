/* SPDX-License-Identifier: MIT */
/* The order of services, from After= and Before=: pure, on units alone. */
#ifndef MOLT_SERVICES_GRAPH_H
#define MOLT_SERVICES_GRAPH_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/unit.h"

/* Whether `a` says, or `b` says, that a comes after b. Does not look further than the two. */
bool graph_is_after(const struct unit *a, const struct unit *b);

/*
 * Ranks n units so that each comes after those it is ordered after: ret_rank[i] is the rank of units[i], 0 first. Where
 * they go round in circles, the first of the circle (in the order given) is put first and `broken` is told of it; the
 * edges that then point to a higher rank do not count. -ENOMEM or 0.
 */
typedef void (*graph_broken)(const struct unit *first, void *userdata);
int graph_rank(const struct unit *const *units, size_t n, unsigned *ret_rank, graph_broken broken,
	void *userdata);

#endif
