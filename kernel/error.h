/* SPDX-License-Identifier: MIT */
/*
 * One error, with its text. Functions that can fail in ways a person must be told about take a
 * struct error and return a negative errno; the text names the operation, its object, the reason
 * and, where there is one, the way out: "cannot pivot to /new: Invalid argument (its parent mount
 * is shared)". Library code fills it in; only callers print or log.
 */
#ifndef MOLT_KERNEL_ERROR_H
#define MOLT_KERNEL_ERROR_H

#include <stdarg.h>

struct error {
	int code; /* negative errno of the last error_set(), 0 if none */
	char text[512]; /* one line, no newline at the end; "" if none */
};

/*
 * Sets the text to "FORMATTED: strerror(code)" and returns -|code|. `code` may have either sign;
 * 0 means that there is no errno behind it: the text stays as formatted and -EINVAL is returned.
 * `e` may be NULL: then only the code is returned. Never allocates. A text too long is cut.
 */
int error_set(struct error *e, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with the text exactly as formatted: no strerror is added. Returns -|code|. */
int error_say(struct error *e, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "FORMATTED: " in front of the text that is there. Returns e->code (or 0 for NULL). */
int error_prefix(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
