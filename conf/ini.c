/* SPDX-License-Identifier: MIT */
/*
 * inih takes " ;" for the begin of a comment, "key: value" for an assignment, an indented line for
 * more of the value above, and holds 200 bytes to a line; a distribution may have built it with
 * other choices. So it is handed lines that it reads the same however it was built: "[section]" and
 * "KEY=". Comments and continuation lines are resolved before, and the value stays here, where the
 * handler picks it up.
 *
 * A line continued over n lines reaches inih as one line and n-1 empty ones: so its count of lines
 * is the file's.
 */
#include "conf/ini.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/words.h"

struct ini_source {
	const char *next, *end; /* what is left of the text */
	char *line; /* the line inih has now, its continuations joined */
	size_t length; /* of it */
	const char *value; /* in `line`; NULL if it has no '=' */
	unsigned number; /* the file's line that inih has now */
	unsigned continued; /* empty lines to hand out before the next one */

	ini_handler_fn handle;
	void *userdata;
	struct error *error;
	int result; /* of what was refused here or by the handler */
	unsigned failed; /* the line of that */
};

static int fail(struct ini_source *s, int result)
{
	s->result = result;
	s->failed = s->number;
	return result;
}

static int refuse(struct ini_source *s, const char *why)
{
	return fail(s, error_say(s->error, -EINVAL, "%s", why));
}

/* The next line of the file as it stands, without its newline. */
static const char *take_raw_line(struct ini_source *s, size_t *ret_length)
{
	const char *line = s->next;
	size_t left = (size_t)(s->end - line);
	const char *newline = memchr(line, '\n', left);

	*ret_length = newline ? (size_t)(newline - line) : left;
	s->next = newline ? newline + 1 : s->end;
	return line;
}

static bool is_comment(const char *line, size_t length)
{
	size_t i = 0;

	while (i < length && is_white_space(line[i]))
		i++;
	return i < length && (line[i] == '#' || line[i] == ';');
}

/* A backslash that is itself escaped continues nothing. */
static bool is_continued(const char *line, size_t length)
{
	size_t backslashes = 0;

	while (backslashes < length && line[length - 1 - backslashes] == '\\')
		backslashes++;
	return backslashes % 2 == 1;
}

static void append_to_line(struct ini_source *s, const char *part, size_t length)
{
	memcpy(s->line + s->length, part, length);
	s->length += length;
}

/* Joins one line and its continuations; comments between them are left out, as in systemd. */
static void take_line(struct ini_source *s)
{
	bool more = true;

	s->length = 0;
	s->number++;
	for (unsigned n = 0; more && s->next < s->end; n++) {
		size_t length;
		const char *raw = take_raw_line(s, &length);

		s->continued = n;
		if (is_comment(raw, length)) {
			more = n > 0;
			continue;
		}
		more = is_continued(raw, length);
		append_to_line(s, raw, more ? length - 1 : length);
		if (more)
			append_to_line(s, " ", 1);
	}
	s->line[s->length] = '\0';
}

/* Removes white space at both ends, in place. */
static char *trim(char *text)
{
	while (is_white_space(*text))
		text++;
	size_t length = strlen(text);
	while (length > 0 && is_white_space(text[length - 1]))
		length--;
	text[length] = '\0';
	return text;
}

/* Cuts the value off the line and leaves what inih shall see; NULL if the line is refused. */
static const char *cut_value(struct ini_source *s)
{
	s->value = NULL;
	if (memchr(s->line, '\0', s->length)) {
		(void)refuse(s, "a NUL byte in the text");
		return NULL;
	}

	char *line = trim(s->line);
	if (line[0] == '[') {
		/* inih would not mind what follows the bracket, and drop it. */
		if (line[strlen(line) - 1] == ']')
			return line;
		(void)refuse(s, "a section header must end with ]");
		return NULL;
	}
	char *equals = strchr(line, '=');
	if (equals) {
		*equals = '\0';
		s->value = trim(equals + 1);
	}
	return line;
}

/* inih's fgets(). */
static char *give_line(char *buffer, int size, void *userdata)
{
	struct ini_source *s = userdata;
	const char *line = "";

	if (s->result < 0)
		return NULL;
	if (s->continued > 0) {
		s->continued--;
		s->number++;
		s->value = NULL;
	} else if (s->next == s->end) {
		return NULL;
	} else {
		take_line(s);
		line = cut_value(s);
	}
	if (!line)
		return NULL;

	int n = snprintf(buffer, (size_t)size, "%s%s\n", line, s->value ? "=" : "");
	if (n < 0 || n >= size) {
		(void)refuse(s, "the name of a key or section is too long");
		return NULL;
	}
	return buffer;
}

static int handle_entry(
	struct ini_source *s, const char *section, const char *key, const char *rest)
{
	/* "a: b" or "a:b=": for inih the colon is as good as an equals sign. */
	if (!s->value || rest[0] != '\0')
		return refuse(s, "neither a [section] nor a KEY=value line");
	if (section[0] == '\0')
		return refuse(s, "a key outside of any [section]");
	if (key[0] == '\0')
		return refuse(s, "a value without a key");

	struct ini_entry entry = {
		.section = section, .key = key, .value = s->value, .line = s->number};
	int r = s->handle(s->userdata, &entry, s->error);
	return r < 0 ? fail(s, r) : 0;
}

/* inih's handler: 1 is success there. */
static int take_entry(void *userdata, const char *section, const char *key, const char *rest)
{
	struct ini_source *s = userdata;

	return s->result == 0 && handle_entry(s, section, key, rest ? rest : "") == 0;
}

static void skip_byte_order_mark(struct ini_source *s)
{
	if (s->end - s->next >= 3 && memcmp(s->next, "\xEF\xBB\xBF", 3) == 0)
		s->next += 3;
}

static int read_entries(struct ini_source *s, const char *name)
{
	int first_error = ini_parse_stream(give_line, s, take_entry, s);

	if (first_error > 0 && (s->result == 0 || (unsigned)first_error < s->failed))
		return error_say(s->error, -EINVAL,
			"%s:%d: neither a [section] nor a KEY=value line", name, first_error);
	if (s->result < 0) {
		(void)error_prefix(s->error, "%s:%u", name, s->failed);
		return s->result;
	}
	if (first_error < 0)
		return error_set(s->error, -ENOMEM, "cannot read %s", name);
	return 0;
}

int ini_read(const char *source, const char *text, size_t length, ini_handler_fn handle,
	void *userdata, struct error *e)
{
	struct ini_source s = {
		.next = text,
		.end = text + length,
		.line = malloc(length + 1),
		.handle = handle,
		.userdata = userdata,
		.error = e,
	};

	if (!s.line)
		return error_set(e, -ENOMEM, "cannot read %s", source);
	skip_byte_order_mark(&s);
	int r = read_entries(&s, source);
	free(s.line);
	return r;
}
