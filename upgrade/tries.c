/* SPDX-License-Identifier: MIT */
#include "upgrade/tries.h"

#include "kernel/util.h"

/* Somebody is always in vfork(2) on a machine that starts programs, but not the same one for long.
 */
#define ROW_MAX 8
#define ROW_USEC (100 * USEC_PER_MSEC)

static const uint64_t PAUSE_USEC[] = {
	1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 300000, 400000, 500000};

void tries_begin(struct tries *t, uint64_t now, uint64_t limit_usec)
{
	*t = (struct tries){.began_usec = now, .deadline_usec = usec_add(now, limit_usec)};
}

void tries_begin_row(struct tries *t, uint64_t now)
{
	t->rows++;
	t->row_usec = usec_add(now, ROW_USEC);
	t->row_count = 0;
	t->row_frozen_usec = 0;
}

void tries_count(struct tries *t, uint64_t frozen_usec)
{
	t->count++;
	t->row_count++;
	t->row_frozen_usec += frozen_usec;
}

bool tries_at_once(const struct tries *t, uint64_t now)
{
	return t->row_count == 0 ||
	       (t->row_count < ROW_MAX && now < t->row_usec && !tries_over(t, now));
}

bool tries_over(const struct tries *t, uint64_t now)
{
	return now >= t->deadline_usec;
}

uint64_t tries_pause(const struct tries *t, uint64_t now)
{
	unsigned n = t->rows > 0 ? t->rows - 1 : 0;
	uint64_t pause = PAUSE_USEC[n < ARRAY_SIZE(PAUSE_USEC) ? n : ARRAY_SIZE(PAUSE_USEC) - 1];
	uint64_t left = tries_over(t, now) ? 0 : t->deadline_usec - now;

	pause = pause > t->row_frozen_usec ? pause : t->row_frozen_usec;
	return pause < left ? pause : left;
}
