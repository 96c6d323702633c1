/* SPDX-License-Identifier: MIT */
#include "conf/keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/specifier.h"

/* A value as it may stand in a message: its begin, on one line. */
struct excerpt {
	char text[104];
};

static struct excerpt excerpt_of(const char *text)
{
	struct excerpt x;
	size_t n = 0;

	for (; n < sizeof(x.text) - 4 && text[n] != '\0'; n++) {
		unsigned char c = (unsigned char)text[n];
		x.text[n] = c < 0x20 || c == 0x7F ? '?' : text[n];
	}
	memcpy(x.text + n, text[n] == '\0' ? "\0\0\0" : "...", 4);
	return x;
}

void key_warn(const struct key_site *site, const char *format, ...)
{
	char text[512];
	va_list ap;

	if (!site->warn)
		return;
	int n = snprintf(text, sizeof(text), "%s:%u: ", site->source, site->line);
	if (n < 0 || (size_t)n >= sizeof(text))
		n = 0;
	va_start(ap, format);
	(void)vsnprintf(text + n, sizeof(text) - (size_t)n, format, ap);
	va_end(ap);
	site->warn(site->userdata, text);
}

int key_no_memory(struct error *e)
{
	return error_say(e, -ENOMEM, "out of memory");
}

int key_expand(const struct key_site *site, const char *text, char **ret, struct error *e)
{
	if (site->unit_name)
		return specifiers_expand(text, site->unit_name, ret, e);
	char *copy = strdup(text);
	if (!copy)
		return key_no_memory(e);
	*ret = copy;
	return 0;
}

int key_append(char ***list, const char *word, struct error *e)
{
	int r = strings_append(list, word);

	if (r == -E2BIG)
		return error_say(e, r, "more than %d words", STRINGS_MAX);
	return r < 0 ? key_no_memory(e) : 0;
}

static bool is_extension(const char *name)
{
	return strncmp(name, "X-", 2) == 0;
}

static bool is_ignored(const struct ignored_key *table, const struct key_site *site)
{
	if (is_extension(site->section) || is_extension(site->key))
		return true;
	for (; table->section; table++) {
		if (strcmp(table->section, site->section) == 0 &&
			(!table->name || strcmp(table->name, site->key) == 0))
			return true;
	}
	return false;
}

static const struct key *find_key(const struct key *table, const struct key_site *site)
{
	for (; table->section; table++) {
		if (strcmp(table->name, site->key) == 0 &&
			strcmp(table->section, site->section) == 0)
			return table;
	}
	return NULL;
}

int keys_apply(const struct key *table, const struct ignored_key *ignored,
	const struct key_site *site, const char *text, struct error *e)
{
	const struct key *key = find_key(table, site);

	if (!key) {
		if (!is_ignored(ignored, site))
			key_warn(site, "%s= in [%s] is not supported, ignored",
				excerpt_of(site->key).text, excerpt_of(site->section).text);
		return 0;
	}
	int r = key->parse(site, text, (char *)site->target + key->offset, key->argument, e);
	if (r < 0)
		(void)error_prefix(e, "%s=%s", key->name, excerpt_of(text).text);
	return r;
}
