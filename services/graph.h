/* SPDX-License-Identifier: MIT */
/* The order of services, from After= and Before=: pure, on units alone. */
#ifndef MOLT_SERVICES_GRAPH_H
#define MOLT_SERVICES_GRAPH_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/unit.h"

/* Whether `a` says, or `b` says, that a comes after b. Does not look further than the two. */
bool graph_is_after(const struct unit *a, const struct unit *b);

/* n units in order. An edge says that one unit comes after another; those of unit i are
 * after[first[i]] up to after[first[i + 1] - 1], each the index of a unit with a lower rank. */
struct graph {
	size_t n;
	unsigned *rank; /* 0 first */
	size_t *first;
	unsigned *after;
};

/*
 * Ranks n units (their names all different) so that each comes after those it is ordered after, be
 * it by a target or its like that the one comes after and the other before.
 * Where they go round in circles, the first of the circle (in the order given) is put first and
 * `broken` is told of it; the edges that then point to a higher rank are left out. Takes time in
 * proportion to n and the edges. *ret is the caller's, graph_free(). -ENOMEM or 0.
 */
typedef void (*graph_broken)(const struct unit *first, void *userdata);
int graph_build(struct graph *ret, const struct unit *const *units, size_t n, graph_broken broken,
	void *userdata);
void graph_free(struct graph *g);

#endif
