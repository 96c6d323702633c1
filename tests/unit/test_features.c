/* SPDX-License-Identifier: MIT */
/* The kernel that this runs on has all of it; a cgroup that has no cgroup.kill is seen to have
 * none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>

#include "kernel/features.h"
#include "kernel/util.h"

static void test_nothing_is_missing(void **state)
{
	char text[160] = "before";

	(void)state;
	features_missing(-1, text, sizeof(text));
	assert_string_equal(text, "");
}

static void test_what_is_missing_is_named(void **state)
{
	char text[160], small[8];
	CLEANUP_FD int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	features_missing(fd, text, sizeof(text));
	assert_string_equal(text, "cgroup.kill");
	features_missing(fd, small, sizeof(small));
	assert_string_equal(small, "cgroup.");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_missing),
		cmocka_unit_test(test_what_is_missing_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
