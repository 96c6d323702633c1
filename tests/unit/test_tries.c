/* SPDX-License-Identifier: MIT */
/* When a swap that somebody is in the way of is tried again, and when no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include "kernel/util.h"
#include "upgrade/tries.h"

#define MSEC USEC_PER_MSEC
#define BEGIN (100 * USEC_PER_SEC)

/* One row in which each try freezes for that long; returns when it ends. */
static uint64_t row(struct tries *t, uint64_t now, uint64_t frozen)
{
	tries_begin_row(t, now);
	while (tries_at_once(t, now)) {
		now += frozen;
		tries_count(t, frozen);
	}
	return now;
}

static void a_row_is_short(void **state)
{
	struct tries t;

	(void)state;
	tries_begin(&t, BEGIN, USEC_INFINITY);
	assert_int_equal(row(&t, BEGIN, MSEC), BEGIN + 8 * MSEC);
	assert_int_equal(row(&t, BEGIN, 30 * MSEC), BEGIN + 120 * MSEC);
	/* However long one takes, there is one. */
	assert_int_equal(row(&t, BEGIN, 1500 * MSEC), BEGIN + 1500 * MSEC);
	assert_int_equal(t.count, 8 + 4 + 1);
	assert_int_equal(t.rows, 3);
}

static void the_system_runs_as_long_as_it_was_frozen(void **state)
{
	struct tries t;
	uint64_t now = BEGIN, pause, before = 0;

	(void)state;
	tries_begin(&t, now, USEC_INFINITY);
	for (unsigned i = 0; i < 30; i++) {
		now = row(&t, now, MSEC / 100);
		pause = tries_pause(&t, now);
		assert_true(pause >= before && pause <= 500 * MSEC);
		before = pause;
	}
	assert_int_equal(before, 500 * MSEC);
	for (unsigned i = 0; i < 30; i++) {
		uint64_t began = now;
		now = row(&t, now, 700 * MSEC);
		assert_int_equal(tries_pause(&t, now), now - began);
	}
}

static void one_deadline_for_all(void **state)
{
	struct tries t;
	uint64_t now = BEGIN, frozen = 0;

	(void)state;
	tries_begin(&t, BEGIN, 5 * USEC_PER_SEC);
	for (;;) {
		uint64_t began = now;
		now = row(&t, now, 20 * MSEC);
		frozen += now - began;
		if (tries_over(&t, now))
			break;
		now += tries_pause(&t, now);
	}
	/* The last row begins no later than the deadline, and is of one try then. */
	assert_true(now >= BEGIN + 5 * USEC_PER_SEC && now <= BEGIN + 5020 * MSEC);
	assert_true(frozen <= (now - BEGIN) / 2);
	assert_true(t.count > 10 && t.count < 200);
	assert_int_equal(t.began_usec, BEGIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_is_short),
		cmocka_unit_test(the_system_runs_as_long_as_it_was_frozen),
		cmocka_unit_test(one_deadline_for_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
