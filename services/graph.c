/* SPDX-License-Identifier: MIT */
#include "services/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNRANKED ((unsigned)-1)

bool graph_is_after(const struct unit *a, const struct unit *b)
{
	return a != b &&
	       (strings_contain(a->after, b->name) || strings_contain(b->before, a->name));
}

struct edge {
	unsigned later, earlier;
};

struct named {
	const char *name;
	unsigned index;
};

/* A unit that is ordered against something that is no service, such as a target. */
struct meeting {
	const char *point;
	unsigned unit;
	bool after; /* it comes after the point; else before */
};

/* What is worked with on the way to a graph. */
struct work {
	const struct unit *const *units;
	size_t n;
	struct named *names; /* sorted */
	struct edge *edges;
	size_t n_edges, capacity;
	struct meeting *meetings; /* sorted by point once all are there */
	size_t n_meetings, meetings_capacity;
	unsigned *missing; /* how many of those it comes after have no rank yet */
	size_t *first; /* of each unit in `follow` */
	unsigned *follow; /* who comes after it */
	size_t *first_before;
	unsigned *before; /* whom it comes after */
	unsigned *rank;
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int sort_names(struct work *w)
{
	w->names = calloc(w->n + 1, sizeof(*w->names));
	if (!w->names)
		return -ENOMEM;
	for (size_t i = 0; i < w->n; i++)
		w->names[i] = (struct named){w->units[i]->name, (unsigned)i};
	qsort(w->names, w->n, sizeof(*w->names), compare_names);
	return 0;
}

static int add_edge(struct work *w, unsigned later, unsigned earlier)
{
	if (later == earlier)
		return 0;
	if (w->n_edges == w->capacity) {
		size_t capacity = w->capacity ? w->capacity * 2 : 64;
		struct edge *grown = reallocarray(w->edges, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		w->edges = grown;
		w->capacity = capacity;
	}
	w->edges[w->n_edges++] = (struct edge){later, earlier};
	return 0;
}

static bool is_service(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && strcmp(dot, ".service") == 0;
}

static int add_meeting(struct work *w, unsigned unit, const char *point, bool after)
{
	if (w->n_meetings == w->meetings_capacity) {
		size_t capacity = w->meetings_capacity ? w->meetings_capacity * 2 : 64;
		struct meeting *grown = reallocarray(w->meetings, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		w->meetings = grown;
		w->meetings_capacity = capacity;
	}
	w->meetings[w->n_meetings++] = (struct meeting){point, unit, after};
	return 0;
}

static int compare_meetings(const void *a, const void *b)
{
	const struct meeting *x = a, *y = b;
	int order = strcmp(x->point, y->point);

	return order ? order : (int)x->after - (int)y->after;
}

/* Those of one point: first all that come before it, then all that come after it. */
static int join(struct work *w, size_t begin, size_t middle, size_t end)
{
	int r = 0;

	for (size_t later = middle; later < end; later++)
		for (size_t earlier = begin; r == 0 && earlier < middle; earlier++)
			r = add_edge(w, w->meetings[later].unit, w->meetings[earlier].unit);
	return r;
}

/*
 * Before=network.target in one file and After=network.target in another order the two: the target
 * is reached once all that come before it are up. Edges are as many as there are pairs, which the
 * number of services bounds.
 */
static int join_at_meetings(struct work *w)
{
	int r = 0;

	if (w->n_meetings > 0)
		qsort(w->meetings, w->n_meetings, sizeof(*w->meetings), compare_meetings);
	for (size_t begin = 0, middle, end; r == 0 && begin < w->n_meetings; begin = end) {
		const char *point = w->meetings[begin].point;
		for (middle = begin; middle < w->n_meetings && !w->meetings[middle].after &&
				     strcmp(w->meetings[middle].point, point) == 0;
			middle++)
			;
		for (end = middle;
			end < w->n_meetings && strcmp(w->meetings[end].point, point) == 0; end++)
			;
		r = join(w, begin, middle, end);
	}
	return r;
}

static int add_edges(struct work *w, unsigned i, char *const *names, bool after)
{
	int r = 0;

	for (; r == 0 && *names; names++) {
		struct named key = {.name = *names};
		struct named *found = bsearch(&key, w->names, w->n, sizeof(key), compare_names);
		if (found)
			r = after ? add_edge(w, i, found->index) : add_edge(w, found->index, i);
		else if (!is_service(*names))
			r = add_meeting(w, i, *names, after);
	}
	return r;
}

static int collect_edges(struct work *w)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < w->n; i++) {
		r = add_edges(w, i, w->units[i]->after, true);
		if (r == 0)
			r = add_edges(w, i, w->units[i]->before, false);
	}
	return r == 0 ? join_at_meetings(w) : r;
}

/* Groups the edges by the one end: first[i] is where those of unit i begin in `others`. */
static int group(const struct work *w, bool by_later, size_t **ret_first, unsigned **ret_others)
{
	size_t *first = calloc(w->n + 2, sizeof(*first));
	unsigned *others = calloc(w->n_edges + 1, sizeof(*others));

	if (!first || !others) {
		free(first);
		free(others);
		return -ENOMEM;
	}
	for (size_t k = 0; k < w->n_edges; k++)
		first[(by_later ? w->edges[k].later : w->edges[k].earlier) + 2]++;
	for (size_t i = 2; i < w->n + 2; i++)
		first[i] += first[i - 1];
	for (size_t k = 0; k < w->n_edges; k++) {
		const struct edge *e = &w->edges[k];
		others[first[(by_later ? e->later : e->earlier) + 1]++] =
			by_later ? e->earlier : e->later;
	}
	*ret_first = first;
	*ret_others = others;
	return 0;
}

/* Somebody that u waits for and that has no rank: there is one, as none is free. */
static unsigned waits_for(const struct work *w, unsigned u)
{
	for (size_t k = w->first_before[u]; k < w->first_before[u + 1]; k++)
		if (w->rank[w->before[k]] == UNRANKED)
			return w->before[k];
	return u;
}

/* None is free: whoever goes on waiting for somebody comes into a circle within n steps. */
static unsigned first_of_circle(const struct work *w)
{
	unsigned u = 0, lowest;

	while (w->rank[u] != UNRANKED)
		u++;
	for (size_t i = 0; i < w->n; i++)
		u = waits_for(w, u);
	lowest = u;
	for (unsigned v = waits_for(w, u); v != u; v = waits_for(w, v))
		if (v < lowest)
			lowest = v;
	return lowest;
}

static unsigned next_free(const struct work *w, unsigned from)
{
	while (from < w->n && (w->rank[from] != UNRANKED || w->missing[from] > 0))
		from++;
	return from;
}

static void rank_all(struct work *w, graph_broken broken, void *userdata)
{
	unsigned cursor = 0;

	for (unsigned at = 0; at < w->n; at++) {
		unsigned u = next_free(w, cursor);
		if (u == w->n) {
			u = first_of_circle(w);
			if (broken)
				broken(w->units[u], userdata);
		}
		w->rank[u] = at;
		cursor = u;
		for (size_t k = w->first[u]; k < w->first[u + 1]; k++) {
			unsigned v = w->follow[k];
			/* Freed before the cursor: it comes first, as given. */
			if (--w->missing[v] == 0 && w->rank[v] == UNRANKED && v < cursor)
				cursor = v;
		}
	}
}

/* An edge that a circle was broken at says nothing any more. */
static void drop_broken(struct work *w)
{
	size_t kept = 0;

	for (size_t k = 0; k < w->n_edges; k++)
		if (w->rank[w->edges[k].later] > w->rank[w->edges[k].earlier])
			w->edges[kept++] = w->edges[k];
	w->n_edges = kept;
}

static int build(struct work *w, struct graph *ret, graph_broken broken, void *userdata)
{
	int r = sort_names(w);

	if (r == 0)
		r = collect_edges(w);
	if (r == 0)
		r = group(w, false, &w->first, &w->follow);
	if (r == 0)
		r = group(w, true, &w->first_before, &w->before);
	w->missing = calloc(w->n + 1, sizeof(*w->missing));
	w->rank = malloc((w->n + 1) * sizeof(*w->rank));
	if (r < 0 || !w->missing || !w->rank)
		return -ENOMEM;
	for (size_t i = 0; i < w->n; i++)
		w->rank[i] = UNRANKED;
	for (size_t k = 0; k < w->n_edges; k++)
		w->missing[w->edges[k].later]++;
	rank_all(w, broken, userdata);
	drop_broken(w);
	r = group(w, true, &ret->first, &ret->after);
	if (r < 0)
		return r;
	ret->n = w->n;
	ret->rank = w->rank;
	w->rank = NULL;
	return 0;
}

int graph_build(struct graph *ret, const struct unit *const *units, size_t n, graph_broken broken,
	void *userdata)
{
	struct work w = {.units = units, .n = n};
	int r = build(&w, ret, broken, userdata);

	free(w.names);
	free(w.edges);
	free(w.meetings);
	free(w.missing);
	free(w.first);
	free(w.follow);
	free(w.first_before);
	free(w.before);
	free(w.rank);
	return r;
}

void graph_free(struct graph *g)
{
	free(g->rank);
	free(g->first);
	free(g->after);
	*g = (struct graph){0};
}
