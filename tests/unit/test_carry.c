/* SPDX-License-Identifier: MIT */
/* Which files Carry= means, what of a list is left out, and what is known of grafts across an exec.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "upgrade/carry.h"
#include "upgrade/grafts.h"

static char directory[] = "/tmp/molt-carry-XXXXXX";
static int root;

static void make(const char *path)
{
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	(void)close(fd);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(strrchr(directory, '-'), "-XXXXXX");
	assert_non_null(mkdtemp(directory));
	root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	assert_int_equal(mkdirat(root, "etc", 0700), 0);
	assert_int_equal(mkdirat(root, "etc/ssh", 0700), 0);
	make("etc/ssh/key_a");
	make("etc/ssh/key_b");
	make("etc/ssh/.key_hidden");
	make("etc/a b");
	/* To /etc of this root, never to that of the machine. */
	assert_int_equal(symlinkat("/etc/ssh", root, "etc/absolute"), 0);
	assert_int_equal(symlinkat("../../../etc/ssh", root, "etc/upwards"), 0);
	assert_int_equal(symlinkat("loop", root, "etc/loop"), 0);
	return 0;
}

static int tear_down(void **state)
{
	char command[100];

	(void)state;
	(void)close(root);
	(void)snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

/* "PATH:ACTION PATH:ACTION" */
static void expands_to(const char *const *patterns, const char *wanted)
{
	struct carry_list l;
	struct error e;
	char text[1000] = "";

	assert_int_equal(carry_expand(&l, root, -1, (char *const *)patterns, &e), 0);
	carry_reduce(&l);
	for (size_t i = 0; i < l.count; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s:%s",
			i ? " " : "", l.list[i].path, carry_action_name(l.list[i].action));
	assert_string_equal(text, wanted);
	carry_list_free(&l);
}

#define EXPANDS(wanted, ...) expands_to((const char *const[]){__VA_ARGS__, NULL}, wanted)

static void test_patterns(void **state)
{
	(void)state;
	EXPANDS("/etc/ssh/key_a:copy", "/etc/ssh/key_a");
	EXPANDS("/etc/ssh/key_a:copy /etc/ssh/key_b:copy", "/etc/ssh/key_?");
	EXPANDS("/etc/ssh/key_a:copy /etc/ssh/key_b:copy", "/etc/ssh/*");
	EXPANDS("/etc/ssh/.key_hidden:copy", "/etc/ssh/.key*");
	EXPANDS("/etc/ssh/[!a-z]*:missing", "/etc/ssh/[!a-z]*");
	EXPANDS("/etc/a b:copy", "/etc/a b");
	EXPANDS("/etc/none:missing /none/a*:missing", "/etc/none", "/none/a*");
	EXPANDS("/etc/loop:copy", "/etc/loop");
	EXPANDS("/etc/loop/x:missing", "/etc/loop/x");
	expands_to(NULL, "");
}

static void test_links_stay_inside(void **state)
{
	(void)state;
	EXPANDS("/etc/absolute/key_a:copy", "/etc/absolute/key_a");
	EXPANDS("/etc/upwards/key_a:copy /etc/upwards/key_b:copy", "/etc/upwards/k*");
	EXPANDS("/etc/absolute/passwd:missing", "/etc/absolute/passwd");
}

static void test_what_is_there_twice(void **state)
{
	(void)state;
	EXPANDS("/etc/ssh:copy", "/etc/ssh", "/etc/ssh/key_a", "/etc/ss?");
	EXPANDS("/etc/ssh:copy", "/etc/ssh/key_a", "/etc/ssh");
	EXPANDS("/etc/ssh/key_a:copy /etc/ssh/key_b:copy", "/etc/ssh/key_a", "/etc/ssh/key_*");
	/* What is missing covers nothing, and a name that begins alike is another. */
	EXPANDS("/etc/s:missing /etc/ssh/key_a:copy", "/etc/s", "/etc/ssh/key_a");
	EXPANDS("/etc/non:missing /etc/non/x:missing", "/etc/non", "/etc/non/x");
}

static void test_what_only_another_root_has(void **state)
{
	static const char *const patterns[] = {"/ssh/key_*", "/etc/ssh/key_a", "/none*", NULL};
	struct carry_list l;
	struct error e;

	(void)state;
	int other = openat(root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(other >= 0);
	assert_int_equal(carry_expand(&l, root, other, (char *const *)patterns, &e), 0);
	assert_int_equal(l.count, 4);
	assert_string_equal(l.list[0].path, "/ssh/key_a");
	assert_string_equal(l.list[1].path, "/ssh/key_b");
	assert_int_equal(l.list[1].action, CARRY_COPY);
	assert_string_equal(l.list[2].path, "/etc/ssh/key_a");
	assert_string_equal(l.list[3].path, "/none*");
	assert_int_equal(l.list[3].action, CARRY_MISSING);
	carry_list_free(&l);
	(void)close(other);
}

static void test_which_of_two_counts(void **state)
{
	(void)state;
	/* seen, the running root, the image: read-only */
	assert_true(carry_takes_stored(CARRY_SEEN_CARRIED, true, true));
	assert_true(carry_takes_stored(CARRY_SEEN_CARRIED, true, false));
	assert_true(carry_takes_stored(CARRY_SEEN_ON_ROOT, true, true));
	assert_true(carry_takes_stored(CARRY_SEEN_ON_ROOT, true, false));
	assert_false(carry_takes_stored(CARRY_SEEN_ON_ROOT, false, true));
	assert_true(carry_takes_stored(CARRY_SEEN_NOT, true, false));
	assert_true(carry_takes_stored(CARRY_SEEN_NOT, false, true));
	assert_false(carry_takes_stored(CARRY_SEEN_NOT, false, false));
	assert_false(carry_takes_stored(CARRY_SEEN_ON_MOUNT, true, true));
	assert_false(carry_takes_stored(CARRY_SEEN_MADE, true, true));
}

static void test_what_can_be_mounted_over_what(void **state)
{
	(void)state;
	assert_true(carry_kinds_match(S_IFREG, S_IFREG));
	assert_true(carry_kinds_match(S_IFDIR, S_IFDIR));
	assert_false(carry_kinds_match(S_IFDIR, S_IFREG));
	assert_false(carry_kinds_match(S_IFREG, S_IFDIR));
	assert_false(carry_kinds_match(S_IFLNK, S_IFREG));
	assert_false(carry_kinds_match(S_IFREG, S_IFLNK));
}

static void test_grafts_across_an_exec(void **state)
{
	struct record_writer w = {0};
	struct record_reader *reader;
	struct record r;
	struct error e;

	(void)state;
	int fd = memfd_create("grafts", MFD_CLOEXEC);
	grafts_write(&w, "/etc/a b", 7);
	grafts_write(&w, "/etc/new\nline", 8);
	assert_int_equal(write(fd, w.text, w.length), (ssize_t)w.length);
	record_writer_done(&w);
	assert_int_equal(grafts_read(3, fd), 2);
	(void)close(fd);
	w = (struct record_writer){0};
	record_begin(&w, "upgrade", "");
	grafts_save(&w);
	record_end(&w);
	grafts_forget(3);
	assert_false(grafts_has(3, "/etc/a b", 7));
	assert_int_equal(record_reader_new(&reader, w.text, w.length), 0);
	assert_int_equal(record_next(reader, &r), 1);
	assert_int_equal(grafts_load(&r, &e), 0);
	record_reader_free(reader);
	record_writer_done(&w);
	assert_true(grafts_has(3, "/etc/a b", 7));
	assert_true(grafts_has(3, "/etc/new\nline", 8));
	assert_false(grafts_has(3, "/etc/a b", 8));
	assert_false(grafts_has(2, "/etc/a b", 7));
	assert_false(grafts_has(3, "/etc/a", 7));
	grafts_forget(3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_patterns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links_stay_inside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_there_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_only_another_root_has, set_up, tear_down),
		cmocka_unit_test(test_which_of_two_counts),
		cmocka_unit_test(test_what_can_be_mounted_over_what),
		cmocka_unit_test(test_grafts_across_an_exec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
