/* SPDX-License-Identifier: MIT */
#include "initctl/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "initctl/text.h"

static void put_escaped(uint32_t point, const char *bytes, size_t length)
{
	if (point == '"' || point == '\\')
		(void)printf("\\%c", (char)point);
	else if (point == '\n')
		(void)fputs("\\n", stdout);
	else if (point == '\t')
		(void)fputs("\\t", stdout);
	else if (point < 0x20 || (point >= 0x7f && point <= 0x9f))
		/* JSON asks for it below 0x20; the others are for who prints this on a terminal. */
		(void)printf("\\u%04x", (unsigned)point);
	else
		(void)fwrite(bytes, 1, length, stdout);
}

static void put_string(const char *s, size_t n)
{
	(void)putchar('"');
	while (n > 0) {
		uint32_t point = 0;
		size_t length = utf8_decode(s, n, &point);

		if (length == 0) {
			(void)fputs("\xef\xbf\xbd", stdout); /* U+FFFD */
			length = 1;
		} else {
			put_escaped(point, s, length);
		}
		s += length;
		n -= length;
	}
	(void)putchar('"');
}

static void begin_value(struct json *j, const char *key)
{
	if (j->needs_comma)
		(void)putchar(',');
	j->needs_comma = true;
	if (key) {
		put_string(key, strlen(key));
		(void)putchar(':');
	}
}

static void begin_container(struct json *j, const char *key, char bracket)
{
	begin_value(j, key);
	(void)putchar(bracket);
	j->needs_comma = false;
}

static void end_container(struct json *j, char bracket)
{
	(void)putchar(bracket);
	j->needs_comma = true;
}

void json_object_begin(struct json *j, const char *key)
{
	begin_container(j, key, '{');
}

void json_object_end(struct json *j)
{
	end_container(j, '}');
}

void json_array_begin(struct json *j, const char *key)
{
	begin_container(j, key, '[');
}

void json_array_end(struct json *j)
{
	end_container(j, ']');
}

void json_string(struct json *j, const char *key, const char *value)
{
	if (value)
		json_string_n(j, key, value, strlen(value));
	else
		json_null(j, key);
}

void json_string_n(struct json *j, const char *key, const char *value, size_t length)
{
	begin_value(j, key);
	put_string(value, length);
}

void json_number(struct json *j, const char *key, int64_t value)
{
	begin_value(j, key);
	(void)printf("%" PRId64, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
	begin_value(j, key);
	(void)fputs(value ? "true" : "false", stdout);
}

void json_null(struct json *j, const char *key)
{
	begin_value(j, key);
	(void)fputs("null", stdout);
}

void json_document_end(struct json *j)
{
	(void)putchar('\n');
	*j = (struct json){0};
}
