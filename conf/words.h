/* SPDX-License-Identifier: MIT */
/* Words of a value, separated by white space, with quotes: systemd.syntax(7), "QUOTING". */
#ifndef MOLT_CONF_WORDS_H
#define MOLT_CONF_WORDS_H

#include <stdbool.h>

enum word_escapes {
	WORD_C_ESCAPES, /* \n, \x41, \u00e9...; an unknown one stays as it is */
	WORD_KEEP_BACKSLASH, /* a backslash is a character: unit names have them */
	WORD_LOOSE, /* a backslash keeps the next character; an open quote is no error */
};

/* Space, tab, newline and their like, in no locale. */
bool is_white_space(char c);

/*
 * Takes the next word off *cursor. Returns 1 and the word, which is the caller's to free, 0 if
 * there is none left, -EINVAL for a quote that is not closed or an escape that has no meaning,
 * -ENOMEM. An empty pair of quotes is an empty word.
 */
int word_next(const char **cursor, enum word_escapes escapes, char **ret);

#endif
