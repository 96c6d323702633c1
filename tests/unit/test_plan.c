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
	assert_int_equal(
		decide(HELD_DIRFD, O_CLOEXEC, false, POLICY_REEXEC, false, true), ACTION_REPLACE);
	assert_int_equal(
		decide(HELD_DIRFD, 0, false, POLICY_HANDOVER, true, false), ACTION_REPLACE);
	assert_int_equal(decide(HELD_ROOT, 0, true, POLICY_RESTART, true, true), ACTION_REPLACE);
}

static enum holder_action decide_on(const struct holder *h, enum upgrade_policy policy)
{
	return plan_holder_action(h, policy, false, true);
}

static void test_what_an_exec_keeps_a_reexec_does_not_end(void **state)
{
	static const enum held DESCRIPTORS[] = {HELD_DIRFD, HELD_FILE, HELD_WATCH, HELD_RING};
	static const enum held OTHERS[] = {HELD_ROOT, HELD_CWD};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
			decide(DESCRIPTORS[i], O_CLOEXEC, false, POLICY_REEXEC, false, true),
			ACTION_REPLACE);
		assert_int_equal(
			decide(DESCRIPTORS[i], 0, false, POLICY_REEXEC, false, true), ACTION_STAYS);
		assert_int_equal(decide(DESCRIPTORS[i], 0, false, POLICY_RESTART, false, true),
			ACTION_REPLACE);
	}
	assert_int_equal(
		decide(HELD_NAMESPACE, 0, false, POLICY_KEEP, false, true), ACTION_MIGRATE);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(
			decide(OTHERS[i], 0, false, POLICY_REEXEC, false, true), ACTION_STAYS);
		assert_int_equal(
			decide(OTHERS[i], 0, false, POLICY_HANDOVER, false, true), ACTION_REPLACE);
	}
}

static void test_writers_block_unless_the_policy_ends_them(void **state)
{
	static const int ACCESS[] = {O_WRONLY, O_RDWR};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int flags = ACCESS[i];
		assert_int_equal(
			decide(HELD_FILE, flags, false, POLICY_KEEP, false, true), ACTION_BLOCKS);
		assert_int_equal(decide(HELD_FILE, flags, false, POLICY_RESTART, false, true),
			ACTION_REPLACE);
		assert_int_equal(decide(HELD_FILE, flags, false, POLICY_HANDOVER, false, true),
			ACTION_REPLACE);
		/* It would be handed on by the exec, and written to for ever. */
		assert_int_equal(
			decide(HELD_FILE, flags, false, POLICY_REEXEC, false, true), ACTION_BLOCKS);
		assert_int_equal(
			decide(HELD_FILE, flags | O_CLOEXEC, false, POLICY_REEXEC, false, true),
			ACTION_REPLACE);
	}
}

static void test_shared_maps_are_writers(void **state)
{
	struct holder h = {.what = HELD_MAP, .fd = -1, .shared = true};

	(void)state;
	assert_true(holder_is_writer(&h));
	assert_int_equal(decide_on(&h, POLICY_KEEP), ACTION_BLOCKS);
	assert_int_equal(decide_on(&h, POLICY_REEXEC), ACTION_REPLACE);
	h.deleted = true;
	assert_int_equal(decide_on(&h, POLICY_KEEP), ACTION_STAYS);
	h = (struct holder){.what = HELD_MAP, .fd = -1};
	assert_int_equal(decide_on(&h, POLICY_KEEP), ACTION_STAYS);
}

static void test_sockets_that_clients_come_to_block(void **state)
{
	struct holder h = {.what = HELD_SOCKET, .fd = 4, .reachable = true};

	(void)state;
	assert_int_equal(decide_on(&h, POLICY_KEEP), ACTION_BLOCKS);
	assert_int_equal(decide_on(&h, POLICY_RESTART), ACTION_REPLACE);
	assert_int_equal(decide_on(&h, POLICY_HANDOVER), ACTION_REPLACE);
	/* An exec hands it on, bound to a file that nobody sees any more. */
	assert_int_equal(decide_on(&h, POLICY_REEXEC), ACTION_BLOCKS);
	h.flags = O_CLOEXEC;
	assert_int_equal(decide_on(&h, POLICY_REEXEC), ACTION_REPLACE);
	/* PID 1 hands it to every instance. */
	h.of_init = true;
	assert_int_equal(decide_on(&h, POLICY_RESTART), ACTION_BLOCKS);
	/* A connection that was accepted, and one whose name was removed. */
	h = (struct holder){.what = HELD_SOCKET, .fd = 4};
	assert_int_equal(decide_on(&h, POLICY_KEEP), ACTION_STAYS);
	h = (struct holder){.what = HELD_SOCKET, .fd = 4, .reachable = true, .deleted = true};
	assert_int_equal(decide_on(&h, POLICY_KEEP), ACTION_STAYS);
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
		cmocka_unit_test(test_what_an_exec_keeps_a_reexec_does_not_end),
		cmocka_unit_test(test_writers_block_unless_the_policy_ends_them),
		cmocka_unit_test(test_shared_maps_are_writers),
		cmocka_unit_test(test_sockets_that_clients_come_to_block),
		cmocka_unit_test(test_what_only_looks_like_a_writer_does_not_block),
		cmocka_unit_test(test_programs_are_replaced_by_their_policy),
		cmocka_unit_test(test_the_unit_is_the_first_part_of_the_cgroup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
