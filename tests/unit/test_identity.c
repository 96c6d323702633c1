/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kernel/identity.h"
#include "kernel/util.h"

/* What the life before has left: not closed by an exec. */
static int left_behind(int end)
{
	int ends[2], fd;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fd = fcntl(ends[end], F_DUPFD, 50);
	assert_true(fd >= 50);
	(void)fd_close(ends[0]);
	(void)fd_close(ends[1]);
	return fd;
}

static void copy_word(int fd, char *word, size_t size)
{
	const char *is = identity_of(fd);

	assert_non_null(is);
	assert_true(strlen(is) < size);
	memcpy(word, is, strlen(is) + 1);
}

static void test_what_is_the_same_is_taken(void **state)
{
	char word[64];
	int fd = left_behind(0);

	(void)state;
	copy_word(fd, word, sizeof(word));
	assert_true(identity_check(fd, word));
	assert_int_equal(identity_take(fd), fd);
	assert_int_equal(identity_find(fd), fd);
	(void)fd_close(fd);
}

/* The number is another's by now: not what the state means, but the one a note may mean. */
static void test_what_has_the_number_now_is_moved_aside(void **state)
{
	char was[64], is[64];
	int fd = left_behind(0), other = left_behind(1);

	(void)state;
	copy_word(fd, was, sizeof(was));
	copy_word(other, is, sizeof(is));
	(void)fd_close(fd);
	assert_int_equal(dup2(other, fd), fd);
	(void)fd_close(other);

	assert_false(identity_check(fd, was));
	assert_int_equal(identity_take(fd), -1);
	int moved = identity_find(fd);
	assert_true(moved > 2 && moved != fd);
	assert_true(identity_is(moved, is));
	/* It is swept out like anything else that nobody knows, and so is what holds the number. */
	assert_int_equal(fcntl(moved, F_GETFD) & FD_CLOEXEC, 0);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	(void)fd_close(fd);
	assert_int_equal(identity_find(fd), moved);
	/* Nothing had that number before. */
	assert_int_equal(identity_find(moved), -1);
	assert_false(identity_check(moved, was));
	assert_true(identity_is(moved, is));
	(void)fd_close(moved);
}

static void test_what_this_life_has_opened_stays_where_it_is(void **state)
{
	char was[64], is[64];
	int fd = left_behind(0), ends[2];

	(void)state;
	copy_word(fd, was, sizeof(was));
	(void)fd_close(fd);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	copy_word(ends[0], is, sizeof(is));
	assert_false(identity_check(ends[0], was));
	assert_int_equal(identity_take(ends[0]), -1);
	assert_true(identity_is(ends[0], is));
	(void)fd_close(ends[0]);
	(void)fd_close(ends[1]);
}

static void test_a_number_that_nothing_has_is_held(void **state)
{
	char was[64];
	int fd = left_behind(0);

	(void)state;
	copy_word(fd, was, sizeof(was));
	(void)fd_close(fd);
	assert_false(identity_check(fd, was));
	assert_int_equal(identity_take(fd), -1);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	assert_int_equal(identity_find(fd), fd);
	(void)fd_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_the_same_is_taken),
		cmocka_unit_test(test_what_has_the_number_now_is_moved_aside),
		cmocka_unit_test(test_what_this_life_has_opened_stays_where_it_is),
		cmocka_unit_test(test_a_number_that_nothing_has_is_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
