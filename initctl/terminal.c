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
	if (colour == COLOUR_NONE || !terminal()->colour)
		(void)fputs(clean, stdout);
	else
		(void)printf("%s%s\033[0m", colour_code(colour), clean);
}

static void print_spaces(size_t n)
{
	(void)printf("%*s", (int)n, "");
}

void print_paragraph(size_t indent, const char *first, enum colour colour, const char *text)
{
	char *clean = text_clean(text);
	size_t width = terminal()->width;
	size_t lead = text_width(first);
	size_t used = indent;
	char *rest = NULL;

	print_spaces(indent > lead ? indent - lead : 0);
	(void)fputs(first, stdout);
	for (char *word = strtok_r(clean, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		size_t wide = text_width(word);
		bool first_on_line = used == indent;

		if (!first_on_line && used + 1 + wide > width) {
			(void)putchar('\n');
			print_spaces(indent);
			used = indent;
		} else if (!first_on_line) {
			(void)putchar(' ');
			used++;
		}
		print_coloured(colour, word);
		used += wide;
	}
	(void)putchar('\n');
	free(clean);
}

int output_flush(void)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	/* After an earlier failure errno is no longer known: then it was most likely this one. */
	return errno == 0 || errno == EPIPE ? 0 : -errno;
}

bool output_closed(void)
{
	struct pollfd output = { .fd = STDOUT_FILENO, .events = 0 };

	return poll(&output, 1, 0) > 0 && (output.revents & (POLLERR | POLLHUP | POLLNVAL));
}
