/* SPDX-License-Identifier: MIT */
/*
 * How often a swap is tried that somebody is in the way of: a process in vfork(2), namespaces that
 * come and go. Each try freezes everything, so they come in rows: a few at once, in one turn of the
 * loop, then a pause that is at least as long as that row had everything frozen. One deadline holds
 * for all of them.
 *
 * Pure: the time is given, CLOCK_MONOTONIC in microseconds.
 */
#ifndef MOLT_UPGRADE_TRIES_H
#define MOLT_UPGRADE_TRIES_H

#include <stdbool.h>
#include <stdint.h>

struct tries {
	uint64_t began_usec, deadline_usec;
	unsigned count; /* of all so far */
	unsigned rows; /* the one that runs included */
	uint64_t row_usec; /* until then, the row that runs goes on */
	unsigned row_count;
	uint64_t row_frozen_usec;
};

void tries_begin(struct tries *t, uint64_t now, uint64_t limit_usec);
void tries_begin_row(struct tries *t, uint64_t now);
/* One more, which had everything frozen for so long. */
void tries_count(struct tries *t, uint64_t frozen_usec);
/* Whether there may be another one at once. The first of a row is always allowed. */
bool tries_at_once(const struct tries *t, uint64_t now);
/* Whether there will be no other row. */
bool tries_over(const struct tries *t, uint64_t now);
/* How long until the next row: not past the deadline, so that the last one is as late as may be. */
uint64_t tries_pause(const struct tries *t, uint64_t now);

#endif
