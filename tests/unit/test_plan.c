/* SPDX-License-Identifier: MIT */
/* What becomes of a holder: every kind of reference under every policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>

#include "upgrade/plan.h"

static enum holder_action decide(enum held what, int flags, bool deleted,
	enum upgrade_policy policy, bool counterpart, bool reachable)
{
	struct holder h = {.what = what, .flags = flags, .deleted = deleted, .fd = 3};

	return plan_holder_action(&h, policy, counterpart, reachable);
}

static void test_directories_are_migrated(void **state)
{
	(void)state;
	static const enum held DIRECTORIES[] = {HELD_ROOT, HELD_CWD, HELD_DIRFD};

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(
			decide(DIRECTORIES[i], 0, false, POLICY_KEEP, true, true), ACTION_MIGRATE);
		assert_int_equal(decide(DIRECTORIES[i], 0, false, POLICY_RESTART, true, true),
			ACTION_MIGRATE);
	}
}

static void test_directories_that_cannot_be_migrated_stay_or_go_with_their_process(void **state)
{
	(void)state;
	assert_int_equal(decide(HELD_CWD, 0, false, POLICY_KEEP, false, true), ACTION_STAYS);
	assert_int_equal(decide(HELD_CWD, 0, false, POLICY_KEEP, true, false), ACTION_STAYS);
	assert_int_equal(decide(HELD_CWD, 0, true, POLICY_KEEP, true, true), ACTION_STAYS);
	assert_int_equal(decide(HELD_DIRFD, 0, false, POLICY_REEXEC, false, true), ACTION_REPLACE);
	assert_int_equal(
		decide(HELD_DIRFD, 0, false, POLICY_HANDOVER, true, false), ACTION_REPLACE);
	assert_int_equal(decide(HELD_ROOT, 0, true, POLICY_RESTART, true, true), ACTION_REPLACE);
}

static void test_writers_block_whatever_the_policy(void **state)
{
	(void)state;
	for (enum upgrade_policy p = POLICY_REEXEC; p <= POLICY_KEEP; p++) {
		assert_int_equal(decide(HELD_FILE, O_WRONLY, false, p, false, true), ACTION_BLOCKS);
		assert_int_equal(decide(HELD_FILE, O_RDWR, false, p, false, true), ACTION_BLOCKS);
	}
}

static void test_what_only_looks_like_a_writer_does_not_block(void **state)
{
	(void)state;
	assert_int_equal(
		decide(HELD_FILE, O_RDONLY, false, POLICY_KEEP, false, true), ACTION_STAYS);
	/* A descriptor for the path alone writes nothing, and a deleted file is lost to everybody
	 * else already. */
	assert_int_equal(
		decide(HELD_FILE, O_RDWR | O_PATH, false, POLICY_KEEP, false, true), ACTION_STAYS);
	assert_int_equal(decide(HELD_FILE, O_RDWR, true, POLICY_KEEP, false, true), ACTION_STAYS);
	assert_int_equal(
		decide(HELD_FILE, O_RDONLY, false, POLICY_RESTART, false, true), ACTION_REPLACE);
}

static void test_programs_are_replaced_by_their_policy(void **state)
{
	(void)state;
	assert_int_equal(decide(HELD_EXE, 0, false, POLICY_KEEP, false, true), ACTION_STAYS);
	assert_int_equal(decide(HELD_EXE, 0, false, POLICY_REEXEC, false, true), ACTION_REPLACE);
	assert_int_equal(decide(HELD_EXE, 0, false, POLICY_HANDOVER, false, true), ACTION_REPLACE);
	assert_int_equal(decide(HELD_EXE, 0, false, POLICY_RESTART, false, true), ACTION_REPLACE);
}

static void test_the_unit_is_the_first_part_of_the_cgroup(void **state)
{
	char unit[64];
	struct holder h = {.cgroup = "nginx.service/3/worker"};

	(void)state;
	holder_unit(&h, unit, sizeof(unit));
	assert_string_equal(unit, "nginx.service");
	h.cgroup = "session";
	holder_unit(&h, unit, sizeof(unit));
	assert_string_equal(unit, "session");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_directories_are_migrated),
		cmocka_unit_test(
			test_directories_that_cannot_be_migrated_stay_or_go_with_their_process),
		cmocka_unit_test(test_writers_block_whatever_the_policy),
		cmocka_unit_test(test_what_only_looks_like_a_writer_does_not_block),
		cmocka_unit_test(test_programs_are_replaced_by_their_policy),
		cmocka_unit_test(test_the_unit_is_the_first_part_of_the_cgroup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
