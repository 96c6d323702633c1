/* SPDX-License-Identifier: MIT */
#include "conf/when.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MINUTE UINT64_C(60000000)
#define NOON 1700049600 /* 2023-11-15 12:00:00 UTC */

static void words_and_minutes(void **state)
{
	struct when w = {.at = true, .usec = 1};

	(void)state;
	assert_int_equal(when_parse("now", NOON, &w), 0);
	assert_false(w.at);
	assert_true(w.usec == 0);
	assert_int_equal(when_parse("+0", NOON, &w), 0);
	assert_true(w.usec == 0);
	assert_int_equal(when_parse("+90", NOON, &w), 0);
	assert_false(w.at);
	assert_true(w.usec == 90 * MINUTE);
}

static void the_next_of_that_time(void **state)
{
	struct when w;

	(void)state;
	assert_int_equal(when_parse("12:01", NOON, &w), 0);
	assert_true(w.at);
	assert_true(w.usec == NOON * UINT64_C(1000000) + MINUTE);
	assert_int_equal(when_parse("12:00", NOON, &w), 0);
	assert_true(w.usec == NOON * UINT64_C(1000000) + 24 * 60 * MINUTE);
	assert_int_equal(when_parse("9:30", NOON, &w), 0);
	assert_true(w.usec == NOON * UINT64_C(1000000) + (21 * 60 + 30) * MINUTE);
}

static void nonsense(void **state)
{
	static const char *const TEXTS[] = {"", "+", "5", "tomorrow", "+-5", "+5m", "24:00",
		"12:60", "12:5", "12:000", ":30", "12:", "112:30", "12:30:00", "1x:30",
		"+999999999", "NOW", " now"};
	struct when w = {.at = true, .usec = 7};

	(void)state;
	for (size_t i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); i++) {
		if (when_parse(TEXTS[i], NOON, &w) != -EINVAL)
			fail_msg("\"%s\" is a time", TEXTS[i]);
	}
	assert_true(w.at && w.usec == 7);
}

static void told_more_often_as_it_nears(void **state)
{
	static const unsigned EXPECTED[] = {
		120, 90, 60, 50, 40, 30, 20, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
	uint64_t left = 150 * MINUTE;

	(void)state;
	for (size_t i = 0; i < sizeof(EXPECTED) / sizeof(EXPECTED[0]); i++) {
		left = when_to_tell(left);
		assert_true(left == EXPECTED[i] * MINUTE);
	}
	assert_true(when_to_tell(0) == 0);
	assert_true(when_to_tell(MINUTE / 2) == 0);
	assert_true(when_to_tell(300 * MINUTE + 1) == 300 * MINUTE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_and_minutes),
		cmocka_unit_test(the_next_of_that_time),
		cmocka_unit_test(nonsense),
		cmocka_unit_test(told_more_often_as_it_nears),
	};

	(void)setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
