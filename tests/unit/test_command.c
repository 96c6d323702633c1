/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit.h"

#define UNIT "web@a-b\\x2dc.service"
#define WORDS_MAX 8

static void free_command(struct command *c)
{
	strings_free(c->argv);
	free(c->path);
}

static void check_words(char *const *argv, const char *const *expected, const char *what)
{
	size_t n = 0;

	for (; expected[n]; n++) {
		if (!argv[n] || strcmp(argv[n], expected[n]) != 0)
			fail_msg("%s: word %zu is \"%s\", not \"%s\"", what, n,
				argv[n] ? argv[n] : "(none)", expected[n]);
	}
	if (argv[n])
		fail_msg("%s: one word too many, \"%s\"", what, argv[n]);
}

struct split {
	const char *text;
	const char *argv[WORDS_MAX];
};

static void splits_into_words(void **state)
{
	(void)state;
	static const struct split cases[] = {
		{"/bin/a", {"/bin/a"}},
		{"  /bin/a   b\t c ", {"/bin/a", "b", "c"}},
		{"/bin/a 'b c' \"d e\"", {"/bin/a", "b c", "d e"}},
		{"/bin/a '' \"\"", {"/bin/a", "", ""}},
		{"/bin/a b'c d'e", {"/bin/a", "bc de"}},
		{"/bin/a '\"' \"'\"", {"/bin/a", "\"", "'"}},
		{"/bin/sh -c 'a ; b'", {"/bin/sh", "-c", "a ; b"}},
		{"/bin/sh -c \"echo # no comment\"", {"/bin/sh", "-c", "echo # no comment"}},
		{"/bin/a \\x41\\102\\n\\t\\s\\\\", {"/bin/a", "AB\n\t \\"}},
		{"/bin/a \\u00e9\\U0001f99e", {"/bin/a", "\xc3\xa9\xf0\x9f\xa6\x9e"}},
		{"/bin/a '\\'' \"\\\"\"", {"/bin/a", "'", "\""}},
		/* systemd warns of an escape it does not know, and keeps it. */
		{"/bin/grep '\\.foo' \\d", {"/bin/grep", "\\.foo", "\\d"}},
		{"/bin/a \\; b;c", {"/bin/a", ";", "b;c"}},
		{"/bin/a $A ${B} $$", {"/bin/a", "$A", "${B}", "$$"}},
		{"/bin/a %n %N %p %i %I %%",
			{"/bin/a", UNIT, "web@a-b\\x2dc", "web", "a-b\\x2dc", "a/b-c", "%"}},
		{"/bin/a %t/x %S %E", {"/bin/a", "/run/x", "/var/lib", "/etc"}},
		{"\"/bin/with space\" x", {"/bin/with space", "x"}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct command c;
		struct error e = {0};
		if (unit_split_command(cases[i].text, UNIT, &c, &e) != 0)
			fail_msg("%s: %s", cases[i].text, e.text);
		check_words(c.argv, cases[i].argv, cases[i].text);
		assert_string_equal(c.path, cases[i].argv[0]);
		free_command(&c);
	}
}

static void replaced_specifiers_are_not_split(void **state)
{
	(void)state;
	struct command c;

	assert_int_equal(unit_split_command("/bin/a %p", "x\\x20y.service", &c, NULL), 0);
	assert_string_equal(c.argv[1], "x\\x20y");
	free_command(&c);
	assert_int_equal(
		unit_split_command("/bin/a -%I- %i", "x@y\\x20\\x00\\xzz.service", &c, NULL), 0);
	assert_string_equal(c.argv[1], "-y \\x00\\xzz-");
	free_command(&c);
	assert_int_equal(unit_split_command("/bin/a %i. %p %N", "plain.service", &c, NULL), 0);
	assert_string_equal(c.argv[1], ".");
	assert_string_equal(c.argv[2], "plain");
	assert_string_equal(c.argv[3], "plain");
	free_command(&c);
}

static void reads_prefixes(void **state)
{
	(void)state;
	struct command c;

	assert_int_equal(unit_split_command("/bin/a", UNIT, &c, NULL), 0);
	assert_false(c.ignore_failure || c.no_environment_expansion || c.privileged);
	free_command(&c);

	assert_int_equal(unit_split_command("-/bin/a", UNIT, &c, NULL), 0);
	assert_true(c.ignore_failure);
	assert_false(c.no_environment_expansion || c.privileged);
	free_command(&c);

	assert_int_equal(unit_split_command(":/bin/a $X", UNIT, &c, NULL), 0);
	assert_true(c.no_environment_expansion);
	assert_false(c.ignore_failure || c.privileged);
	free_command(&c);

	for (size_t i = 0; i < 3; i++) {
		static const char *const privileged[] = {"+/bin/a", "!/bin/a", "!!/bin/a"};
		assert_int_equal(unit_split_command(privileged[i], UNIT, &c, NULL), 0);
		assert_true(c.privileged);
		assert_string_equal(c.path, "/bin/a");
		free_command(&c);
	}

	assert_int_equal(unit_split_command("@-:+/bin/a zero one", UNIT, &c, NULL), 0);
	assert_true(c.ignore_failure && c.no_environment_expansion && c.privileged);
	assert_string_equal(c.path, "/bin/a");
	assert_string_equal(c.argv[0], "zero");
	assert_string_equal(c.argv[1], "one");
	assert_null(c.argv[2]);
	free_command(&c);
}

struct refusal {
	const char *text;
	const char *expected;
};

static void refuses_what_is_no_command(void **state)
{
	(void)state;
	static const struct refusal cases[] = {
		{"", "no program to run"},
		{" \t", "no program to run"},
		{"-", "no program to run"},
		{"''", "no program to run"},
		{"bin/a", "bin/a is not an absolute path"},
		{"-a/b", "a/b is not an absolute path"},
		{"$A/b", "$A/b is not an absolute path"},
		{"@/bin/a", "with @, a word for argv[0] must follow the path"},
		{"/bin/a 'b", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \"b", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \\x4", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \\x00", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \\000", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \\477", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \\ud800", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a \\U00110000", "a quote is not closed, or an escape has no meaning"},
		{"/bin/a %q", "unknown specifier %q (write %% for a percent sign)"},
		{"/bin/a 50%", "unknown specifier % (write %% for a percent sign)"},
		{"/bin/a ; /bin/b", "more than one command"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct command c = {.path = "untouched"};
		struct error e = {0};
		if (unit_split_command(cases[i].text, UNIT, &c, &e) != -EINVAL)
			fail_msg("%s is taken", cases[i].text);
		assert_string_equal(e.text, cases[i].expected);
		assert_int_equal(e.code, -EINVAL);
		assert_string_equal(c.path, "untouched");
		assert_int_equal(unit_split_command(cases[i].text, UNIT, &c, NULL), -EINVAL);
	}
}

struct expansion {
	const char *text;
	const char *argv[WORDS_MAX];
};

static char *environment[] = {"A=one two", "B=b", "EMPTY=", "Q='x y' z\\ w \"open", "BB=other",
	"SPACE= \t ", "D=$B", NULL};

static void expands_variables(void **state)
{
	(void)state;
	static const struct expansion cases[] = {
		{"/x $A", {"/x", "one", "two"}},
		{"/x ${A}", {"/x", "one two"}},
		{"/x '$A'", {"/x", "one", "two"}},
		{"/x -${A}-${B}", {"/x", "-one two-b"}},
		{"/x pre$A", {"/x", "pre$A"}},
		{"/x $UNSET end", {"/x", "end"}},
		{"/x ${UNSET} end", {"/x", "", "end"}},
		{"/x a${UNSET}b", {"/x", "ab"}},
		{"/x $EMPTY ${EMPTY}", {"/x", ""}},
		{"/x $SPACE end", {"/x", "end"}},
		{"/x $Q", {"/x", "x y", "z w", "open"}},
		{"/x $$A $${A} a$$b", {"/x", "$A", "${A}", "a$b"}},
		{"/x $ a$ ${A", {"/x", "$", "a$", "${A"}},
		{"/x $1 $-", {"/x", "$1", "$-"}},
		{"/x $D ${D}", {"/x", "$B", "$B"}},
		{"/x ${}", {"/x", ""}},
		{":/x $A ${A} $$", {"/x", "$A", "${A}", "$$"}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct command c;
		char **argv;
		assert_int_equal(unit_split_command(cases[i].text, UNIT, &c, NULL), 0);
		assert_int_equal(command_expand(&c, environment, &argv), 0);
		check_words(argv, cases[i].argv, cases[i].text);
		strings_free(argv);
		free_command(&c);
	}
}

static void expands_to_nothing(void **state)
{
	(void)state;
	char *words[] = {"$UNSET", NULL};
	struct command c = {.argv = words};
	char **argv;

	assert_int_equal(command_expand(&c, NULL, &argv), 0);
	assert_non_null(argv);
	assert_null(argv[0]);
	strings_free(argv);
}

/* A short command must not ask for gigabytes; here it is 128, refused before any is allocated. */
static void expansion_is_bounded(void **state)
{
	(void)state;
	const size_t size = 1 << 20, times = 1 << 17;
	char *variable = malloc(size + 3), *text = malloc(4 * times + 1);
	char *words[] = {text, NULL}, *thrice[] = {"${X}${X}${X}", "${X}${X}${X}", NULL};
	struct command c = {.argv = words};
	char **argv = environment;

	assert_true(variable && text);
	memset(variable, 'x', size + 2);
	memcpy(variable, "X=", 2);
	variable[size + 2] = '\0';
	for (size_t i = 0; i < times; i++)
		(void)strcpy(text + 4 * i, "${X}");
	char *env[] = {variable, NULL};
	assert_int_equal(command_expand(&c, env, &argv), -E2BIG);
	c.argv = thrice;
	assert_int_equal(command_expand(&c, env, &argv), -E2BIG);
	assert_ptr_equal(argv, environment);
	thrice[1] = NULL;
	assert_int_equal(command_expand(&c, env, &argv), 0);
	assert_int_equal(strlen(argv[0]), 3 * size);
	strings_free(argv);
	free(text);
	free(variable);
}

static void words_are_bounded(void **state)
{
	(void)state;
	size_t size = 4 * STRINGS_MAX;
	char *text = malloc(size + 1);
	struct command c;
	struct error e = {0};

	assert_non_null(text);
	memset(text, ' ', size);
	for (size_t i = 8; i < size; i += 2)
		text[i] = 'x';
	text[size] = '\0';
	memcpy(text, "/bin/a ", 7);
	assert_int_equal(unit_split_command(text, UNIT, &c, &e), -E2BIG);
	assert_string_equal(e.text, "more than 8192 words");
	free(text);
}

struct environment_case {
	const char *text;
	const char *expected[WORDS_MAX];
};

static void reads_environment_files(void **state)
{
	(void)state;
	static const struct environment_case cases[] = {
		{"", {NULL}},
		{"\n \n\t\n", {NULL}},
		{"A=b", {"A=b"}},
		{"A=b\nC=d\n", {"A=b", "C=d"}},
		{"A=b\r\nC=d\r\n", {"A=b", "C=d"}},
		{"# A=b\n; C=d\n  # E=f\nG=h", {"G=h"}},
		{"# not continued \\\nA=b", {"A=b"}},
		{"A=b # no comment", {"A=b # no comment"}},
		{"  A = b c  ", {"A=b c"}},
		{"A=\nB=", {"A=", "B="}},
		{"A== b", {"A== b"}},
		{"A='b  c'\nB=\"d  e\"", {"A=b  c", "B=d  e"}},
		{"A=' b '", {"A= b "}},
		{"A='x'\"y\"z", {"A=xyz"}},
		{"A=-S \"x y\" it's", {"A=-S \"x y\" it's"}},
		{"A='l1\nl2'\nB=\"m1\nm2\"", {"A=l1\nl2", "B=m1\nm2"}},
		{"A=b\\\nc", {"A=bc"}},
		{"A=b\\ c\\$d\\\\", {"A=b c$d\\"}},
		{"A=b\\ ", {"A=b "}},
		{"A=\"a\\\"b\\$c\\n\\\nd\"", {"A=a\"b$c\\nd"}},
		{"A='a\\n'", {"A=a\\n"}},
		{"A='open", {"A=open"}},
		{"A=\"open\\", {"A=open\\"}},
		{"A=end\\", {"A=end"}},
		{"no assignment\nA=b", {"A=b"}},
		{"1A=b\nA-B=c\nexport C=d\n=e\nF=g", {"F=g"}},
		{"A=1\nB=2\nA=3", {"A=3", "B=2"}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char **list = NULL;
		assert_int_equal(
			environment_file_parse(cases[i].text, strlen(cases[i].text), &list), 0);
		assert_int_equal(strings_ensure(&list), 0);
		check_words(list, cases[i].expected, cases[i].text);
		strings_free(list);
	}
}

static void environment_file_adds_to_the_list(void **state)
{
	(void)state;
	static const char *const expected[] = {"OLD=1", "A=new", "B=2", NULL};
	char **list = NULL;

	assert_int_equal(environment_set(&list, "OLD=1"), 0);
	assert_int_equal(environment_set(&list, "A=old"), 0);
	assert_int_equal(environment_file_parse("A=new\nB=2\nC=x\0y\n", 16, &list), 0);
	check_words(list, expected, "list");
	strings_free(list);
}

static void sets_and_gets_variables(void **state)
{
	(void)state;
	static const char *const no_assignments[] = {
		"", "A", "=b", "1=b", "A B=c", "A.B=c", "\xc3=x"};
	char **list = NULL;

	for (size_t i = 0; i < sizeof(no_assignments) / sizeof(no_assignments[0]); i++)
		assert_int_equal(environment_set(&list, no_assignments[i]), -EINVAL);
	assert_null(list);
	assert_int_equal(environment_set(&list, "AB=1"), 0);
	assert_int_equal(environment_set(&list, "A=2=3"), 0);
	assert_int_equal(environment_set(&list, "_9z="), 0);
	assert_string_equal(environment_get(list, "A", 1), "2=3");
	assert_string_equal(environment_get(list, "AB", 2), "1");
	assert_string_equal(environment_get(list, "_9z", 3), "");
	assert_null(environment_get(list, "B", 1));
	assert_null(environment_get(NULL, "B", 1));
	strings_free(list);
}

static void lists_are_bounded(void **state)
{
	(void)state;
	char **list = NULL;

	assert_int_equal(strings_count(NULL), 0);
	assert_false(strings_contain(NULL, "x"));
	for (int i = 0; i < STRINGS_MAX; i++)
		assert_int_equal(strings_append(&list, "x"), 0);
	assert_int_equal(strings_append(&list, "x"), -E2BIG);
	assert_int_equal(strings_count(list), STRINGS_MAX);
	assert_true(strings_contain(list, "x"));
	assert_false(strings_contain(list, "y"));
	strings_free(list);
	strings_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_into_words),
		cmocka_unit_test(replaced_specifiers_are_not_split),
		cmocka_unit_test(reads_prefixes),
		cmocka_unit_test(refuses_what_is_no_command),
		cmocka_unit_test(expands_variables),
		cmocka_unit_test(expands_to_nothing),
		cmocka_unit_test(expansion_is_bounded),
		cmocka_unit_test(words_are_bounded),
		cmocka_unit_test(reads_environment_files),
		cmocka_unit_test(environment_file_adds_to_the_list),
		cmocka_unit_test(sets_and_gets_variables),
		cmocka_unit_test(lists_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
