/* SPDX-License-Identifier: MIT */
/*
 * A file of sections and KEY=value lines, in the dialect of systemd.syntax(7), read by the library
 * inih. What inih would read otherwise than systemd never reaches it: see ini.c.
 */
#ifndef MOLT_CONF_INI_H
#define MOLT_CONF_INI_H

#include <stddef.h>

#include "kernel/error.h"

/* One assignment. The strings live until the handler returns. */
struct ini_entry {
	const char *section;
	const char *key;
	const char *value; /* white space around it is gone; "" for "KEY=" */
	unsigned line; /* where it begins; 1 is the first line */
};

/* Returns 0, or a negative errno with a text that need not say where: ini_read() adds that. */
typedef int (*ini_handler_fn)(void *userdata, const struct ini_entry *entry, struct error *e);

/*
 * Calls `handle` for each assignment in the text, in order, up to the first error. Returns 0,
 * -EINVAL for a line that is no such text, -ENOMEM, or what the handler returned; the error's text
 * then begins with "SOURCE:LINE: ".
 */
int ini_read(const char *source, const char *text, size_t length, ini_handler_fn handle,
	void *userdata, struct error *e);

#endif
