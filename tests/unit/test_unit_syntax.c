/* SPDX-License-Identifier: MIT */
/* The syntax of a unit, which inih alone would read otherwise. */
#include "tests/unit/unit_text.h"

#include <stdlib.h>

static void semicolons_are_no_comments(void **state)
{
	(void)state;
	struct unit *u = unit_of("[Unit]\nDescription=a ; b # c\n"
				 "[Service]\nExecStart=/bin/sh -c 'a ; b' #x\n"
				 "; comment\n # comment\n;\n#\n");

	assert_string_equal(u->description, "a ; b # c");
	assert_string_equal(u->exec_start.items[0].argv[2], "a ; b");
	assert_string_equal(u->exec_start.items[0].argv[3], "#x");
	unit_free(u);
}

static void values_keep_colons_and_equals_signs(void **state)
{
	(void)state;
	struct unit *u =
		unit_of("[Unit]\nDescription = a: b = c == [d]\n[Service]\nExecStart=/bin/x\n");

	assert_string_equal(u->description, "a: b = c == [d]");
	unit_free(u);
}

static void indented_lines_stand_for_themselves(void **state)
{
	(void)state;
	struct unit *u =
		unit_of("  [Service]  \n\tExecStart = /bin/x \n  User\t=\tu \n   KillMode=none\n");

	assert_string_equal(u->exec_start.items[0].path, "/bin/x");
	assert_string_equal(u->user, "u");
	assert_int_equal(u->kill_mode, KILL_NONE);
	unit_free(u);
}

static void a_backslash_continues_a_line(void **state)
{
	(void)state;
	struct unit *u = unit_of("[Service]\nExecStart=/bin/x a\\\n"
				 "  b \\\n"
				 "# a comment between\n"
				 "   ; and one more \\\n"
				 "c\nUser=u\\\n\nGroup=g \\");

	static const char *const expected[] = {"/bin/x", "a", "b", "c"};
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(u->exec_start.items[0].argv[i], expected[i]);
	assert_null(u->exec_start.items[0].argv[4]);
	assert_string_equal(u->user, "u");
	assert_string_equal(u->group, "g");
	unit_free(u);

	u = unit_of("[Service]\nExecStart=/bin/x a\\\\\nUser=u\n# no continuation \\\nGroup=g\n");
	assert_string_equal(u->exec_start.items[0].argv[1], "a\\");
	assert_string_equal(u->user, "u");
	assert_string_equal(u->group, "g");
	unit_free(u);
}

static void windows_lines_and_byte_order_mark(void **state)
{
	(void)state;
	struct unit *u = unit_of("\xEF\xBB\xBF[Service]\r\nExecStart=/bin/x a\r\nUser=u\r\n");

	assert_null(u->exec_start.items[0].argv[2]);
	assert_string_equal(u->exec_start.items[0].argv[1], "a");
	assert_string_equal(u->user, "u");
	unit_free(u);
	unit_free(unit_of("\xEF\xBB\xBF# a comment \\\n[Service]\nExecStart=/bin/x\n"));
}

static void lines_may_be_very_long(void **state)
{
	(void)state;
	const size_t size = 300000;
	char *text = malloc(size + 200);

	assert_non_null(text);
	char *end = stpcpy(text, "[Service]\nExecStart=/bin/x ");
	memset(end, 'y', size);
	(void)strcpy(end + size, "\nUser=u\nKillMode=bad\n");
	expect_error(text, "x:4: KillMode=bad: not one of control-group, mixed, process, none");
	(void)strcpy(end + size, "\nUser=u\n");
	struct unit *u = unit_of(text);
	assert_int_equal(strlen(u->exec_start.items[0].argv[1]), size);
	assert_string_equal(u->user, "u");
	unit_free(u);
	free(text);
}

#define NEITHER "neither a [section] nor a KEY=value line"

static void refuses_what_is_no_unit_text(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		{"User=x\n" START, "x:1: a key outside of any [section]"},
		{"\n\n# c\nUser=x\n" START, "x:4: a key outside of any [section]"},
		{"[]\nUser=x\n" START, "x:2: a key outside of any [section]"},
		{START "word\n", "x:3: " NEITHER},
		{START "User: x\n", "x:3: " NEITHER},
		{START "User:a=x\n", "x:3: " NEITHER},
		{START "[Service\n", "x:3: a section header must end with ]"},
		{START "[Service] User=x\n", "x:3: a section header must end with ]"},
		{START "[Service] ; c\n", "x:3: a section header must end with ]"},
		{START "=x\n", "x:3: a value without a key"},
		{START "User ; c=x\n", "x:3: " NEITHER},
		/* A continued line is one; what follows it keeps its own number. */
		{START "[Unit]\nDescription=a\\\nb\\\n\\\n\nword\n", "x:8: " NEITHER},
		{START "A\\\nB\\\nC\nUser=%q\n", "x:3: " NEITHER},
		{START "User=a\\\n# c\n\\\n %q\nword\n",
			"x:3: User=a   %q: not the name or number of a user or group"},
		/* The first error is told, whichever of the two sees it. */
		{START "word\nKillMode=x\n", "x:3: " NEITHER},
		{START "UMask=9\nword\n", "x:3: UMask=9: not an octal number up to 0777"},
	};
	CHECK_REFUSALS(cases);
}

static void refuses_nul_bytes_and_long_names(void **state)
{
	(void)state;
	static const char nul[] = START "User=a\0b\n";
	struct unit *u = NULL;
	struct error e = {0};
	char text[600] = START, *end = text + strlen(text);

	assert_int_equal(unit_parse(&u, "x", "x", nul, sizeof(nul) - 1, NULL, NULL, &e), -EINVAL);
	assert_string_equal(e.text, "x:3: a NUL byte in the text");

	memset(end, 'k', 400);
	(void)strcpy(end + 400, "=v\n");
	expect_error(text, "x:3: the name of a key or section is too long");
	end[0] = '[';
	(void)strcpy(end + 400, "]\n");
	expect_error(text, "x:3: the name of a key or section is too long");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(semicolons_are_no_comments),
		cmocka_unit_test(values_keep_colons_and_equals_signs),
		cmocka_unit_test(indented_lines_stand_for_themselves),
		cmocka_unit_test(a_backslash_continues_a_line),
		cmocka_unit_test(windows_lines_and_byte_order_mark),
		cmocka_unit_test(lines_may_be_very_long),
		cmocka_unit_test(refuses_what_is_no_unit_text),
		cmocka_unit_test(refuses_nul_bytes_and_long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
