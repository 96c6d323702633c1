/* SPDX-License-Identifier: MIT */
/* Command lines: systemd.service(5), "COMMAND LINES". */
#include "conf/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/specifier.h"
#include "conf/words.h"

void command_done(struct command *c)
{
	strings_free(c->argv);
	free(c->path);
	*c = (struct command){0};
}

void commands_done(struct commands *list)
{
	for (size_t i = 0; i < list->count; i++)
		command_done(&list->items[i]);
	free(list->items);
	*list = (struct commands){0};
}

/* The prefixes, in any order. Returns whether the second word shall be argv[0] ("@"). */
static bool take_prefixes(const char **cursor, struct command *c)
{
	bool second_word_is_argv0 = false;
	const char *s = *cursor;

	while (is_white_space(*s))
		s++;
	for (; *s && strchr("-:@+!", *s); s++) {
		c->ignore_failure |= *s == '-';
		c->no_environment_expansion |= *s == ':';
		c->privileged |= *s == '+' || *s == '!';
		second_word_is_argv0 |= *s == '@';
	}
	*cursor = s;
	return second_word_is_argv0;
}

static int next_word(const char **cursor, const char *unit_name, char **ret, struct error *e)
{
	char *word;
	int r = word_next(cursor, WORD_C_ESCAPES, &word);

	if (r == -EINVAL)
		return error_say(e, r, "a quote is not closed, or an escape has no meaning");
	if (r < 0)
		return error_say(e, r, "out of memory");
	if (r == 0)
		return 0;
	r = specifiers_expand(word, unit_name, ret, e);
	free(word);
	return r < 0 ? r : 1;
}

static bool is_lone(const char *s, const char *what)
{
	size_t n = strlen(what);

	return strncmp(s, what, n) == 0 && (s[n] == '\0' || is_white_space(s[n]));
}

static int append_word(struct command *c, const char *word, struct error *e)
{
	int r = strings_append(&c->argv, word);

	if (r == -E2BIG)
		return error_say(e, r, "more than %d words", STRINGS_MAX);
	return r < 0 ? error_say(e, r, "out of memory") : 0;
}

/* The words up to the end or a lone semicolon, which is taken off too. */
static int take_arguments(
	const char **cursor, const char *unit_name, struct command *c, struct error *e)
{
	for (;;) {
		char *word = NULL;
		int r;

		while (is_white_space(**cursor))
			(*cursor)++;
		if (is_lone(*cursor, ";")) {
			(*cursor)++;
			return 0;
		}
		if (is_lone(*cursor, "\\;")) {
			*cursor += 2;
			r = append_word(c, ";", e);
		} else {
			r = next_word(cursor, unit_name, &word, e);
			if (r == 0)
				return 0;
			if (r > 0)
				r = append_word(c, word, e);
			free(word);
		}
		if (r < 0)
			return r;
	}
}

static int take_path(const char **cursor, const char *unit_name, struct command *c, struct error *e)
{
	int r = next_word(cursor, unit_name, &c->path, e);

	if (r < 0)
		return r;
	if (!c->path || c->path[0] == '\0')
		return error_say(e, -EINVAL, "no program to run");
	if (c->path[0] != '/' && strchr(c->path, '/'))
		return error_say(e, -EINVAL, "%.200s is not an absolute path", c->path);
	return 0;
}

static int take_command(
	const char **cursor, const char *unit_name, struct command *c, struct error *e)
{
	bool second_word_is_argv0 = take_prefixes(cursor, c);
	int r = take_path(cursor, unit_name, c, e);

	if (r < 0)
		return r;
	if (!second_word_is_argv0) {
		r = append_word(c, c->path, e);
		if (r < 0)
			return r;
	}
	r = take_arguments(cursor, unit_name, c, e);
	if (r < 0)
		return r;
	if (!c->argv)
		return error_say(e, -EINVAL, "with @, a word for argv[0] must follow the path");
	return 0;
}

int command_next(const char **cursor, const char *unit_name, struct command *ret, struct error *e)
{
	struct command c = {0};

	while (is_white_space(**cursor))
		(*cursor)++;
	if (**cursor == '\0')
		return 0;
	int r = take_command(cursor, unit_name, &c, e);
	if (r < 0) {
		command_done(&c);
		return r;
	}
	*ret = c;
	return 1;
}

int unit_split_command(
	const char *text, const char *unit_name, struct command *ret, struct error *e)
{
	struct command c;
	int r = command_next(&text, unit_name, &c, e);

	if (r == 0)
		return error_say(e, -EINVAL, "no program to run");
	if (r < 0)
		return r;
	while (is_white_space(*text))
		text++;
	if (*text != '\0') {
		command_done(&c);
		return error_say(e, -EINVAL, "more than one command");
	}
	*ret = c;
	return 0;
}
