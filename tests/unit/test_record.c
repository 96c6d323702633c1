/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/record.h"

static struct record_reader *reader_of(const char *text)
{
	struct record_reader *r = NULL;

	assert_int_equal(record_reader_new(&r, text, strlen(text)), 0);
	return r;
}

static void writes_the_documented_form(void **state)
{
	(void)state;
	struct record_writer w = {0};

	record_begin(&w, "service", "nginx.service");
	record_text(&w, "state", "running");
	record_text(&w, "absent", NULL);
	record_int(&w, "main_pid", 412);
	record_bool(&w, "set", true);
	record_bool(&w, "unset", false);
	record_text(&w, "fd", "a");
	record_text(&w, "fd", "b");
	record_format(&w, "where", "%s:%d", "x", 3);
	record_end(&w);
	record_begin(&w, "system", "");
	record_end(&w);

	assert_int_equal(w.error, 0);
	assert_string_equal(w.text, "@service nginx.service\n"
				    "state=running\n"
				    "main_pid=412\n"
				    "set=yes\n"
				    "unset=no\n"
				    "fd=a\n"
				    "fd=b\n"
				    "where=x:3\n"
				    "\n"
				    "@system\n"
				    "\n");
	assert_int_equal(w.length, strlen(w.text));
	record_writer_done(&w);
	assert_null(w.text);
}

static void escapes_what_could_end_a_line(void **state)
{
	(void)state;
	struct record_writer w = {0};

	record_begin(&w, "k", "a\n@k b");
	record_text(&w, "v", "x\r\n\\\x01\x7f\t=");
	record_end(&w);
	assert_string_equal(w.text, "@k a\\n@k b\nv=x\\r\\n\\\\\\x01\\x7f\\x09=\n\n");
	record_writer_done(&w);
}

static void reads_what_is_documented(void **state)
{
	(void)state;
	struct record_reader *r = reader_of("@service nginx.service\nstate=running\nmain_pid=412\n"
					    "fd=a\nfd=b=c\nempty=\n\n@system\n\n");
	struct record rec;

	assert_int_equal(record_next(r, &rec), 1);
	assert_string_equal(rec.kind, "service");
	assert_string_equal(rec.id, "nginx.service");
	assert_int_equal(rec.line, 1);
	assert_int_equal(rec.n_fields, 5);
	assert_string_equal(rec.fields[0].key, "state");
	assert_string_equal(record_get(&rec, "state"), "running");
	assert_int_equal(record_get_int(&rec, "main_pid", -1), 412);
	assert_string_equal(record_get(&rec, "fd"), "a");
	assert_string_equal(record_get_nth(&rec, "fd", 1), "b=c");
	assert_null(record_get_nth(&rec, "fd", 2));
	assert_string_equal(record_get(&rec, "empty"), "");
	assert_null(record_get(&rec, "stat"));

	assert_int_equal(record_next(r, &rec), 1);
	assert_string_equal(rec.kind, "system");
	assert_string_equal(rec.id, "");
	assert_int_equal(rec.line, 8);
	assert_int_equal(rec.n_fields, 0);
	assert_int_equal(record_next(r, &rec), 0);
	assert_int_equal(record_next(r, &rec), 0);
	record_reader_free(r);
}

static void reads_numbers_and_booleans(void **state)
{
	(void)state;
	struct record_reader *r = reader_of(
		"@k\nmin=-9223372036854775808\nmax=9223372036854775807\nover=9223372036854775808\n"
		"under=-9223372036854775809\nhex=0x10\nspace= "
		"1\nplus=+1\nempty=\nminus=-\ntail=1a\n"
		"yes=yes\nno=no\nmaybe=true\n\n");
	static const char *const no_numbers[] = {
		"over", "under", "hex", "space", "plus", "empty", "minus", "tail", "absent"};
	struct record rec;

	assert_int_equal(record_next(r, &rec), 1);
	assert_true(record_get_int(&rec, "min", 0) == INT64_MIN);
	assert_true(record_get_int(&rec, "max", 0) == INT64_MAX);
	for (size_t i = 0; i < sizeof(no_numbers) / sizeof(no_numbers[0]); i++)
		assert_int_equal(record_get_int(&rec, no_numbers[i], 77), 77);
	assert_true(record_get_bool(&rec, "yes", false));
	assert_false(record_get_bool(&rec, "no", true));
	assert_true(record_get_bool(&rec, "maybe", true));
	assert_false(record_get_bool(&rec, "maybe", false));
	assert_true(record_get_bool(&rec, "absent", true));
	record_reader_free(r);
}

/* Every byte a C string can hold, as id and as value. */
static void every_byte_comes_back(void **state)
{
	(void)state;
	char all[256];
	struct record_writer w = {0};
	struct record_reader *r = NULL;
	struct record rec;

	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = '\0';
	record_begin(&w, "k", all);
	record_text(&w, "v", all);
	record_end(&w);
	for (int i = 1; i < 256; i++) {
		char one[] = {(char)i, '\0'};
		record_begin(&w, "one", one);
		record_text(&w, "v", one);
		record_end(&w);
	}
	assert_int_equal(w.error, 0);

	assert_int_equal(record_reader_new(&r, w.text, w.length), 0);
	assert_int_equal(record_next(r, &rec), 1);
	assert_string_equal(rec.id, all);
	assert_string_equal(record_get(&rec, "v"), all);
	for (int i = 1; i < 256; i++) {
		char one[] = {(char)i, '\0'};
		assert_int_equal(record_next(r, &rec), 1);
		assert_string_equal(rec.id, one);
		assert_string_equal(record_get(&rec, "v"), one);
	}
	assert_int_equal(record_next(r, &rec), 0);
	record_reader_free(r);
	record_writer_done(&w);
}

struct hostile {
	const char *text;
	unsigned line;
};

static void refuses_what_is_no_record(void **state)
{
	(void)state;
	static const struct hostile texts[] = {
		{"\n", 1},
		{"key=value\n\n", 1},
		{"@\n\n", 1},
		{"@ id\n\n", 1},
		{"@Kind\n\n", 1},
		{"@kind_x\n\n", 1},
		{"@kind\tid\n\n", 1},
		{"@k \x01\n\n", 1},
		{"@k a\\\n\n", 1},
		{"@k\nno equals\n\n", 2},
		{"@k\n=v\n\n", 2},
		{"@k\nKey=v\n\n", 2},
		{"@k\nkey =v\n\n", 2},
		{"@k\nok=1\nkey=\\q\n\n", 3},
		{"@k\nkey=\\\n\n", 2},
		{"@k\nkey=\\x\n\n", 2},
		{"@k\nkey=\\x1\n\n", 2},
		{"@k\nkey=\\x00\n\n", 2},
		{"@k\nkey=\\xAB\n\n", 2},
		{"@k\nkey=\\xg0\n\n", 2},
		{"@k\nkey=a\rb\n\n", 2},
		{"@k\nkey=a\tb\n\n", 2},
		{"@k\nkey=\x7f\n\n", 2},
		{"@k\nkey=v\n@k\n\n", 3},
		{"@k\n\n\n@k\n\n", 3},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct record_reader *r = reader_of(texts[i].text);
		struct record rec = {0};
		int n = record_next(r, &rec);
		if (n == 1)
			n = record_next(r, &rec);
		if (n != -EBADMSG || rec.line != texts[i].line)
			fail_msg("text %zu gives %d at line %u", i, n, rec.line);
		/* Nothing that follows is taken for a record. */
		rec.line = 0;
		assert_int_equal(record_next(r, &rec), -EBADMSG);
		assert_int_equal(rec.line, texts[i].line);
		record_reader_free(r);
	}
}

static void refuses_a_nul_byte(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"@k\0x\n\n", "@k x\0y\n\n", "@k\nke\0y=\n\n", "@k\nk=\0\n\n"};
	static const size_t lengths[] = {6, 8, 10, 8};

	for (size_t i = 0; i < 4; i++) {
		struct record_reader *r = NULL;
		struct record rec;
		assert_int_equal(record_reader_new(&r, texts[i], lengths[i]), 0);
		assert_int_equal(record_next(r, &rec), -EBADMSG);
		record_reader_free(r);
	}
}

/* Cut off at any byte, a text gives its whole records and then an error, or is at its end. */
static void half_a_message_is_none(void **state)
{
	(void)state;
	static const char text[] = "@k id\na=1\nb=\\x01\n\n@l\nc=3\n\n";
	const size_t first = strlen("@k id\na=1\nb=\\x01\n\n");

	for (size_t cut = 0; cut < strlen(text); cut++) {
		struct record_reader *r = NULL;
		struct record rec;
		int whole = cut >= first;
		assert_int_equal(record_reader_new(&r, text, cut), 0);
		for (int i = 0; i < whole; i++)
			assert_int_equal(record_next(r, &rec), 1);
		assert_int_equal(record_next(r, &rec), cut == 0 || cut == first ? 0 : -EBADMSG);
		record_reader_free(r);
	}
}

static void failure_leaves_the_record_alone(void **state)
{
	(void)state;
	struct record_reader *r = reader_of("@k\n");
	struct record rec = {.kind = "untouched", .n_fields = 9};

	assert_int_equal(record_next(r, &rec), -EBADMSG);
	assert_string_equal(rec.kind, "untouched");
	assert_int_equal(rec.n_fields, 9);
	record_reader_free(r);
}

/* Each of these would write a text that no reader takes. */
static void mistakes_of_the_writer_are_errors(void **state)
{
	(void)state;

	for (int mistake = 0; mistake < 7; mistake++) {
		struct record_writer w = {0};

		record_begin(&w, "kept", "");
		record_end(&w);
		if (mistake == 0)
			record_text(&w, "key", "outside");
		if (mistake == 1)
			record_end(&w);
		if (mistake == 2)
			record_begin(&w, "Bad kind", "");
		if (mistake == 3)
			record_begin(&w, "", "");
		if (mistake > 3)
			record_begin(&w, "k", "");
		if (mistake == 4)
			record_text(&w, "bad key", "v");
		if (mistake == 5)
			record_text(&w, "", "v");
		if (mistake == 6)
			record_begin(&w, "nested", "");
		record_text(&w, "more", "is ignored");
		record_end(&w);
		assert_int_equal(w.error, -EINVAL);
		assert_string_equal(w.text, "@kept\n\n");
		assert_int_equal(w.length, strlen(w.text));
		record_writer_done(&w);
		assert_int_equal(w.error, 0);
	}
}

static void large_texts_are_as_good(void **state)
{
	(void)state;
	const size_t size = 1 << 20;
	char *large = malloc(size + 1);
	struct record_writer w = {0};
	struct record_reader *r = NULL;
	struct record rec;

	assert_non_null(large);
	memset(large, '\n', size);
	large[size] = '\0';
	record_begin(&w, "k", "");
	for (int i = 0; i < 10000; i++)
		record_int(&w, "n", i);
	record_text(&w, "large", large);
	record_end(&w);
	assert_int_equal(w.error, 0);
	assert_int_equal(record_reader_new(&r, w.text, w.length), 0);
	assert_int_equal(record_next(r, &rec), 1);
	assert_int_equal(rec.n_fields, 10001);
	assert_string_equal(record_get_nth(&rec, "n", 9999), "9999");
	assert_string_equal(record_get(&rec, "large"), large);
	record_reader_free(r);
	record_writer_done(&w);
	free(large);
}

static void nothing_is_fine(void **state)
{
	(void)state;
	struct record_writer w = {0};
	struct record_reader *r = NULL;
	struct record rec;

	record_writer_done(&w);
	record_reader_free(NULL);
	assert_int_equal(record_reader_new(&r, NULL, 0), 0);
	assert_int_equal(record_next(r, &rec), 0);
	record_reader_free(r);
	assert_int_equal(record_reader_new(&r, "", SIZE_MAX), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_the_documented_form),
		cmocka_unit_test(escapes_what_could_end_a_line),
		cmocka_unit_test(reads_what_is_documented),
		cmocka_unit_test(reads_numbers_and_booleans),
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(refuses_what_is_no_record),
		cmocka_unit_test(refuses_a_nul_byte),
		cmocka_unit_test(half_a_message_is_none),
		cmocka_unit_test(failure_leaves_the_record_alone),
		cmocka_unit_test(mistakes_of_the_writer_are_errors),
		cmocka_unit_test(large_texts_are_as_good),
		cmocka_unit_test(nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
