/* SPDX-License-Identifier: MIT */
/*
 * A table of keys: which section, which name, how the value is read and into which member of a
 * struct it goes. Service files and init.conf are one such table each.
 */
#ifndef MOLT_CONF_KEYS_H
#define MOLT_CONF_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/unit.h"
#include "kernel/error.h"

/* Where a value stands, and who hears warnings. */
struct key_site {
	const char *source;
	unsigned line;
	const char *section, *key;
	const char *unit_name; /* for specifiers; NULL: a percent sign is one */
	void *target; /* the struct the table is about */
	unit_warn warn; /* NULL: nobody does */
	void *userdata;
};

/*
 * Reads `text` into `field`. Returns 0 or a negative errno, with the reason as text and nothing of
 * where: keys_apply() adds that. The struct is thrown away after a failure, whatever is in it.
 */
typedef int key_parser_fn(const struct key_site *site, const char *text, void *field,
	const void *argument, struct error *e);

struct key {
	const char *section;
	const char *name;
	key_parser_fn *parse;
	size_t offset; /* of the member in the target */
	const void *argument; /* the parser's own */
};

/* Keys that are left out silently. A NULL name is the whole section. */
struct ignored_key {
	const char *section;
	const char *name;
};

/*
 * Gives `text` to the parser of the site's key. Both tables end with an entry without section.
 * Returns 0, also for an unknown key: that is a warning, unless `ignored` lists it or its name or
 * section begins with "X-".
 */
int keys_apply(const struct key *table, const struct ignored_key *ignored,
	const struct key_site *site, const char *text, struct error *e);

/* "SOURCE:LINE: TEXT" to the one who hears warnings. */
void key_warn(const struct key_site *site, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* "out of memory", as an error. */
int key_no_memory(struct error *e);

/* The text with its specifiers replaced, the caller's. */
int key_expand(const struct key_site *site, const char *text, char **ret, struct error *e);

/* Appends to a list; an error is explained. */
int key_append(char ***list, const char *word, struct error *e);

/*
 * The parsers, and what their field is. An empty value is a wrong one, unless said otherwise.
 *
 *   bool      bool
 *   enum      an enum; the argument is the NULL-terminated list of its names
 *   span      uint64_t, microseconds
 *   timeout   uint64_t, microseconds; 0 is for ever, as in systemd
 *   delay     uint64_t, microseconds, finite
 *   deadline  uint64_t, microseconds, finite and more than 0
 *   size      uint64_t, bytes, more than 0; K, M, G and T are powers of 1024
 *   signal    int
 *   text      char *; empty: NULL
 *   path      char *, absolute; empty: NULL
 *   units     char **, names of units, which add up; empty: none
 */
key_parser_fn key_parse_bool, key_parse_enum, key_parse_span, key_parse_timeout, key_parse_delay,
	key_parse_deadline, key_parse_size, key_parse_signal, key_parse_text, key_parse_path,
	key_parse_units;

/* Whether it is "NAME.TYPE" in the characters and the length of systemd.unit(5). */
bool unit_name_is_valid(const char *name);

#endif
