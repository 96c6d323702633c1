/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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
	assert_int_equal(identity_find(fd, word), fd);
	(void)fd_close(fd);
	assert_int_equal(identity_find(fd, word), -1);
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
	assert_int_equal(identity_find(fd, was), -1);
	int moved = identity_find(fd, is);
	assert_true(moved > 2 && moved != fd);
	/* It is swept out like anything else that nobody knows, and so is what holds the number. */
	assert_int_equal(fcntl(moved, F_GETFD) & FD_CLOEXEC, 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
	/* Once is enough. */
	assert_false(identity_check(fd, was));
	assert_int_equal(identity_find(fd, is), moved);
	/* Nothing had that number before: and so it goes on to another one. */
	assert_false(identity_check(moved, was));
	int further = identity_find(fd, is);
	assert_true(further > 2 && further != moved);
	(void)fd_close(fd);
	(void)fd_close(moved);
	assert_int_equal(identity_find(fd, is), further);
	(void)fd_close(further);
	assert_int_equal(identity_find(fd, is), -1);
}

/* The life that moved it has crashed as well, before it had a state: all that is left of it is what
 * it has put in its place. */
static void test_what_an_earlier_life_has_moved_is_found(void **state)
{
	char was[64], is[64];
	int fd = left_behind(0), other = left_behind(1), status;
	pid_t pid;

	(void)state;
	copy_word(fd, was, sizeof(was));
	copy_word(other, is, sizeof(is));
	(void)fd_close(fd);
	assert_int_equal(dup2(other, fd), fd);
	(void)fd_close(other);
	/* With the descriptors of this process, and a memory of its own. */
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(identity_check(fd, was));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);

	assert_false(identity_check(fd, was));
	int moved = identity_find(fd, is);
	assert_true(moved > 2 && moved != fd);
	(void)fd_close(fd);
	(void)fd_close(moved);
}

/* What looks like a mark and is none leads to nothing but what the note means. */
static void test_a_mark_that_a_service_made(void **state)
{
	char was[64], is[64];
	int fd = left_behind(0), other = left_behind(1), forged = memfd_create("molt-moved", 0);

	(void)state;
	assert_true(forged > 2);
	assert_int_equal(pwrite(forged, &other, sizeof(other), 0), sizeof(other));
	copy_word(fd, was, sizeof(was));
	copy_word(forged, is, sizeof(is));
	(void)fd_close(fd);
	assert_int_equal(dup2(forged, fd), fd);
	(void)fd_close(forged);
	assert_false(identity_check(fd, was));
	assert_int_equal(identity_find(fd, is), fd);
	(void)fd_close(fd);
	(void)fd_close(other);
}

static int n_left;

static void leave(int fd)
{
	n_left++;
	identity_leave(fd);
}

/* What a note has named stays for the next life, and no program gets it. */
static void test_what_is_left_until_there_is_a_state(void **state)
{
	char is[64];
	int noted = left_behind(0), unknown = left_behind(1);

	(void)state;
	copy_word(noted, is, sizeof(is));
	assert_int_equal(identity_find(noted, is), noted);
	identity_each_inherited(leave);
	assert_true(n_left >= 2);
	assert_int_equal(fcntl(unknown, F_GETFD), -1);
	assert_int_equal(fcntl(noted, F_GETFD), FD_CLOEXEC);
	identity_close_left();
	assert_int_equal(fcntl(noted, F_GETFD), -1);
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
	assert_int_equal(identity_find(fd, was), -1);
	(void)fd_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_the_same_is_taken),
		cmocka_unit_test(test_what_has_the_number_now_is_moved_aside),
		cmocka_unit_test(test_what_an_earlier_life_has_moved_is_found),
		cmocka_unit_test(test_a_mark_that_a_service_made),
		cmocka_unit_test(test_what_this_life_has_opened_stays_where_it_is),
		cmocka_unit_test(test_a_number_that_nothing_has_is_held),
		cmocka_unit_test(test_what_is_left_until_there_is_a_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
