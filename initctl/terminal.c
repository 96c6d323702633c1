/* SPDX-License-Identifier: MIT */
#include "initctl/terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "initctl/memory.h"
#include "initctl/text.h"

#define WIDTH_UNKNOWN 80

static size_t measure_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;

	/* A serial console does not know its size: its user says it in COLUMNS. */
	const char *columns = getenv("COLUMNS");
	unsigned long n = columns ? strtoul(columns, NULL, 10) : 0;
	return n > 0 && n < 10000 ? n : WIDTH_UNKNOWN;
}

static bool wants_colour(void)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	return !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

static const char *choose_ellipsis(void)
{
	(void)setlocale(LC_CTYPE, "");
	bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;

	/* Whatever the user's locale: wcwidth() must know the width of every character. */
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	return utf8 ? "…" : "~";
}

const struct terminal *terminal(void)
{
	static struct terminal t;

	if (!t.ellipsis) {
		t.is_terminal = isatty(STDOUT_FILENO) == 1;
		t.colour = t.is_terminal && wants_colour();
		t.width = t.is_terminal ? measure_width() : SIZE_MAX;
		t.ellipsis = choose_ellipsis();
	}
	return &t;
}

static const char *colour_code(enum colour colour)
{
	switch (colour) {
	case COLOUR_NONE:
		return "";
	case COLOUR_BOLD:
		return "\033[1m";
	case COLOUR_DIM:
		return "\033[2m";
	case COLOUR_RED:
		return "\033[31m";
	case COLOUR_GREEN:
		return "\033[32m";
	case COLOUR_YELLOW:
		return "\033[33m";
	}
	return "";
}

void print_coloured(enum colour colour, const char *clean)
{
	if (colour == COLOUR_NONE || !*clean || !terminal()->colour)
		(void)fputs(clean, stdout);
	else
		(void)printf("%s%s\033[0m", colour_code(colour), clean);
}

static void print_spaces(size_t n)
{
	(void)printf("%*s", (int)n, "");
}

/*
 * The bytes of the first word of a text. `A command` in backquotes is one word, so that it can be
 * copied from one line, unless it is wider than a line.
 */
static size_t word_length(const char *text, size_t width)
{
	size_t simple = strcspn(text, " ");
	const char *quote = memchr(text, '`', simple);
	const char *end = quote ? strchr(quote + 1, '`') : NULL;

	if (!end)
		return simple;
	size_t quoted = (size_t)(end - text) + strcspn(end, " ");
	return quoted <= width ? quoted : simple;
}

void print_paragraph(size_t indent, const char *first, enum colour colour, const char *text)
{
	char *clean = text_clean(text);
	size_t width = terminal()->width;
	size_t lead = text_width(first);
	size_t used = indent;

	print_spaces(indent > lead ? indent - lead : 0);
	(void)fputs(first, stdout);
	for (char *at = clean + strspn(clean, " "); *at; at += strspn(at, " ")) {
		char *word = format_text("%.*s", (int)word_length(at, width - indent), at);
		size_t wide = text_width(word);

		if (used > indent && used + 1 + wide > width) {
			(void)putchar('\n');
			print_spaces(indent);
			used = indent;
		} else if (used > indent) {
			(void)putchar(' ');
			used++;
		}
		print_coloured(colour, word);
		used += wide;
		at += strlen(word);
		free(word);
	}
	(void)putchar('\n');
	free(clean);
}

/* Whether the reader of stdout went away. */
static bool output_closed(void)
{
	struct pollfd output = {.fd = STDOUT_FILENO, .events = 0};

	return poll(&output, 1, 0) > 0 && (output.revents & (POLLERR | POLLHUP | POLLNVAL));
}

int output_flush(void)
{
	static int failure; /* the first one: stdio remembers only that there was one */

	errno = 0;
	if (fflush(stdout) != 0 && failure == 0)
		failure = errno;
	if (failure == 0 && ferror(stdout))
		failure = output_closed() ? EPIPE : EIO;
	return failure == EPIPE ? 0 : -failure;
}
