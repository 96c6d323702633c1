/* SPDX-License-Identifier: MIT */
#include "services/graph.h"

#include <errno.h>
#include <stdlib.h>

#define UNRANKED ((unsigned)-1)

bool graph_is_after(const struct unit *a, const struct unit *b)
{
	return a != b && (strings_contain(a->after, b->name) || strings_contain(b->before, a->name));
}

static bool is_free(const struct unit *const *units, size_t n, const unsigned *rank, size_t i)
{
	for (size_t j = 0; j < n; j++)
		if (rank[j] == UNRANKED && graph_is_after(units[i], units[j]))
			return false;
	return true;
}

static size_t next_free(const struct unit *const *units, size_t n, const unsigned *rank)
{
	for (size_t i = 0; i < n; i++)
		if (rank[i] == UNRANKED && is_free(units, n, rank, i))
			return i;
	return n;
}

static size_t next_unranked(size_t n, const unsigned *rank)
{
	size_t i = 0;

	while (i < n && rank[i] != UNRANKED)
		i++;
	return i;
}

int graph_rank(const struct unit *const *units, size_t n, unsigned *ret_rank, graph_broken broken,
	void *userdata)
{
	unsigned *rank = malloc(sizeof(*rank) * (n ? n : 1));

	if (!rank)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		rank[i] = UNRANKED;
	for (unsigned at = 0; at < n; at++) {
		size_t i = next_free(units, n, rank);
		if (i == n) {
			i = next_unranked(n, rank);
			if (broken)
				broken(units[i], userdata);
		}
		rank[i] = at;
	}
	for (size_t i = 0; i < n; i++)
		ret_rank[i] = rank[i];
	free(rank);
	return 0;
}
