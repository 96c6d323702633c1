/* SPDX-License-Identifier: MIT */
/* What stdout is, and how to write for it: width, colour, filled paragraphs. */
#ifndef MOLT_INITCTL_TERMINAL_H
#define MOLT_INITCTL_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

enum colour {
	COLOUR_NONE,
	COLOUR_BOLD,
	COLOUR_DIM,
	COLOUR_RED,
	COLOUR_GREEN,
	COLOUR_YELLOW,
};

struct terminal {
	bool is_terminal;
	bool colour; /* a terminal, TERM is not "dumb", and NO_COLOR (no-color.org) is not set */
	size_t width; /* columns; SIZE_MAX if it is no terminal: nothing is cut then */
	const char *ellipsis; /* one column wide: what the locale can show */
};

/* Looked at once, at the first call. */
const struct terminal *terminal(void);

/* Prints a text that is clean already. */
void print_coloured(enum colour colour, const char *clean);

/*
 * Prints words and a newline, every line `indent` columns in; on a terminal it breaks between words
 * so that nothing wraps by itself. `first` stands in the indent of the first line ("-> "; "" for
 * none). The text is cleaned here.
 */
void print_paragraph(size_t indent, const char *first, enum colour colour, const char *text);

/*
 * Flushes stdout. Returns 0 (also for a closed pipe: who closed it has read enough), or a negative
 * errno if the output is lost for another reason, a full disk for example.
 */
int output_flush(void);

#endif
