/* SPDX-License-Identifier: MIT */
/* The log of a running service is moved away under its hands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/rotate.h"

#define LINES 30000

static char directory[] = "/tmp/molt-test-rotate-XXXXXX";
static char path[64], moved[64];

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/x.log", directory);
	(void)snprintf(moved, sizeof(moved), "%s/x.log.1", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	(void)unlink(path);
	(void)unlink(moved);
	return rmdir(directory);
}

static void write_lines(int fd, int from, int to)
{
	for (int i = from; i < to; i++)
		assert_true(dprintf(fd, "%08d\n", i) == 9);
}

/* The two one after the other: only whole blocks can be cut off, and a line may begin in one. */
static void expect_lines(int count)
{
	static char text[9 * (LINES + 100)];
	size_t length = 0;

	for (int i = 0; i < 2; i++) {
		FILE *in = fopen(i == 0 ? moved : path, "r");
		assert_non_null(in);
		length += fread(text + length, 1, sizeof(text) - length, in);
		(void)fclose(in);
	}
	assert_int_equal(length, 9 * count);
	for (int i = 0; i < count; i++) {
		char line[16];
		(void)snprintf(line, sizeof(line), "%08d\n", i);
		assert_memory_equal(text + (size_t)i * 9, line, 9);
	}
}

static void test_nothing_is_lost(void **state)
{
	struct stat st;

	(void)state;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	write_lines(fd, 0, LINES);
	assert_int_equal(rotate_file(path, 9 * LINES), 0);
	assert_int_equal(rotate_file(path, 9 * LINES - 1), 1);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 65536);
	write_lines(fd, LINES, LINES + 10); /* by the descriptor that it always had */
	expect_lines(LINES + 10);
	assert_int_equal(stat(moved, &st), 0);
	assert_true(st.st_size > 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	(void)close(fd);
}

static void test_what_is_no_log_is_left_alone(void **state)
{
	(void)state;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rotate_file(path, 1), -ENOENT);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(rotate_file(path, 1), -ELOOP);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(rotate_file(path, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_lost),
		cmocka_unit_test(test_what_is_no_log_is_left_alone),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
