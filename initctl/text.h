/* SPDX-License-Identifier: MIT */
/*
 * Text on its way to a terminal. Names of processes, STATUS= lines and log lines are whatever a
 * service chose to write, and a terminal obeys what it is sent: colours, titles, on some even typed
 * input. So everything printed for people goes through text_put() or text_clean().
 */
#ifndef MOLT_INITCTL_TEXT_H
#define MOLT_INITCTL_TEXT_H

#include <stdint.h>
#include <stdio.h>

/*
 * The code point at `s`, of which at most `n` bytes are there. Returns the bytes it takes, or 0 if
 * they are no UTF-8 (RFC 3629: nothing overlong, no surrogates, nothing above U+10FFFF).
 */
size_t utf8_decode(const char *s, size_t n, uint32_t *ret);

/*
 * Writes `n` bytes; a byte of a control character, of a mark that turns the direction of writing,
 * or of what is no UTF-8 is written as \xHH. A byte in `keep` passes ("\t" for log lines).
 */
void text_put(FILE *f, const char *s, size_t n, const char *keep);

/* The same as a string, the caller's to free. */
char *text_clean(const char *s);

/* The columns that a clean text takes on a terminal. */
size_t text_width(const char *clean);

/* The bytes at the beginning of a clean text that fit in `width` columns. */
size_t text_prefix(const char *clean, size_t width);

#endif
