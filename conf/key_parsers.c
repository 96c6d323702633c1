/* SPDX-License-Identifier: MIT */
/* The parsers of values that mean the same wherever they stand. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/keys.h"
#include "conf/number.h"
#include "conf/words.h"

/* Parsers share one signature; most need only part of it. */
#define UNUSED __attribute__((unused))

int key_parse_bool(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	if (unit_parse_bool(text, field) < 0)
		return error_say(e, -EINVAL, "not yes or no");
	return 0;
}

/* "not one of no, on-success, always" */
static int refuse_name(const char *const *names, struct error *e)
{
	char list[256];
	size_t n = 0;

	for (size_t i = 0; names[i] && n < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", names[i]);
	return error_say(e, -EINVAL, "not one of %s", list);
}

int key_parse_enum(UNUSED const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e)
{
	const char *const *names = argument;

	for (unsigned i = 0; names[i]; i++) {
		if (strcmp(names[i], text) == 0) {
			/* gcc and clang give an enum without negative values this type. */
			*(unsigned *)field = i;
			return 0;
		}
	}
	return refuse_name(names, e);
}

static int parse_span(const char *text, uint64_t *ret, struct error *e)
{
	if (unit_parse_span(text, ret) < 0)
		return error_say(
			e, -EINVAL, "not a time span such as 90, 500ms, \"1min 30s\" or infinity");
	return 0;
}

int key_parse_span(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	return parse_span(text, field, e);
}

int key_parse_timeout(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	uint64_t *timeout = field;
	int r = parse_span(text, timeout, e);

	if (r == 0 && *timeout == 0)
		*timeout = UNIT_USEC_INFINITY;
	return r;
}

static int parse_finite(const char *text, uint64_t least, uint64_t *field, struct error *e)
{
	uint64_t usec;
	int r = parse_span(text, &usec, e);

	if (r < 0)
		return r;
	if (usec == UNIT_USEC_INFINITY)
		return error_say(e, -EINVAL, "must be finite");
	if (usec < least)
		return error_say(e, -EINVAL, "must be more than 0");
	*field = usec;
	return 0;
}

int key_parse_delay(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	return parse_finite(text, 0, field, e);
}

int key_parse_deadline(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	return parse_finite(text, 1, field, e);
}

/* How far "K", "M", "G" and "T" shift; -1 for what is none. */
static int size_shift(const char *suffix)
{
	static const char suffixes[] = "KMGT";
	const char *found;

	if (suffix[0] == '\0')
		return 0;
	found = suffix[1] == '\0' ? strchr(suffixes, suffix[0]) : NULL;
	return found ? 10 * (int)(found - suffixes + 1) : -1;
}

int key_parse_size(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	size_t digits = strspn(text, "0123456789");
	int shift = size_shift(text + digits);
	char number[24];
	int64_t count;

	(void)snprintf(number, sizeof(number), "%.*s", (int)(digits < 23 ? digits : 23), text);
	if (shift < 0 || number_parse(number, &count) < 0 || count < 1 ||
		count > INT64_MAX >> shift)
		return error_say(e, -EINVAL, "not a size such as 65536, 64K, 10M or 1G");
	*(uint64_t *)field = (uint64_t)count << shift;
	return 0;
}

int key_parse_signal(UNUSED const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	if (unit_parse_signal(text, field) < 0)
		return error_say(e, -EINVAL, "not a signal such as TERM, SIGTERM, 15 or RTMIN+3");
	return 0;
}

static void replace(char **field, char *text)
{
	free(*field);
	*field = text;
}

int key_parse_text(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	char *expanded = NULL;
	int r = text[0] ? key_expand(site, text, &expanded, e) : 0;

	if (r == 0)
		replace(field, expanded);
	return r;
}

int key_parse_path(const struct key_site *site, const char *text, void *field, const void *argument,
	struct error *e)
{
	if (text[0] && text[0] != '/' && text[0] != '%')
		return error_say(e, -EINVAL, "not an absolute path");

	char *path = NULL;
	int r = key_parse_text(site, text, &path, argument, e);
	if (r == 0 && path && path[0] != '/') {
		free(path);
		return error_say(e, -EINVAL, "not an absolute path");
	}
	if (r == 0)
		replace(field, path);
	return r;
}

bool unit_name_is_valid(const char *name)
{
	static const char *const types[] = {".service", ".socket", ".target", ".mount",
		".automount", ".device", ".swap", ".timer", ".path", ".slice", ".scope"};
	const char *dot = strrchr(name, '.');
	size_t length = strlen(name);

	if (!dot || dot == name || name[0] == '@' || length > 255)
		return false;
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			 ":-_.\\@") != length)
		return false;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(dot, types[i]) == 0)
			return true;
	}
	return false;
}

static int append_unit(const struct key_site *site, const char *word, char ***list, struct error *e)
{
	char *name = NULL;
	int r = key_expand(site, word, &name, e);

	if (r < 0)
		return r;
	/* Where only services can stand, as in initctl, the ending may be left out. */
	if (site->unit_name == NULL && !strchr(name, '.')) {
		char *full;
		if (asprintf(&full, "%s.service", name) < 0)
			full = NULL;
		free(name);
		if (!full)
			return key_no_memory(e);
		name = full;
	}
	if (!unit_name_is_valid(name))
		r = error_say(e, -EINVAL, "%.100s is not a unit's name such as x.service", name);
	else if (!strings_contain(*list, name))
		r = key_append(list, name, e);
	free(name);
	return r;
}

/* The list with the words of `text` at its end. It owns what is added, also on failure. */
static int append_units(
	const struct key_site *site, const char *text, char ***list, struct error *e)
{
	for (;;) {
		char *word;
		int r = word_next(&text, WORD_KEEP_BACKSLASH, &word);
		if (r == 0)
			return 0;
		if (r < 0)
			return r == -ENOMEM ? key_no_memory(e)
					    : error_say(e, r, "a quote is not closed");
		r = append_unit(site, word, list, e);
		free(word);
		if (r < 0)
			return r;
	}
}

int key_parse_units(const struct key_site *site, const char *text, void *field,
	UNUSED const void *argument, struct error *e)
{
	char ***list = field;

	if (text[0] == '\0') {
		strings_free(*list);
		*list = NULL;
	}
	return append_units(site, text, list, e);
}
