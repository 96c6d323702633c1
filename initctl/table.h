/* SPDX-License-Identifier: MIT */
/*
 * Tables on stdout. Off a terminal every cell is printed whole. On one, a line never gets wider
 * than it: first the column that may be cut gives way, then whole columns go, the least important
 * first. A column that is empty in every row is not shown.
 */
#ifndef MOLT_INITCTL_TABLE_H
#define MOLT_INITCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "initctl/terminal.h"

struct column {
	const char *title;
	bool right; /* aligned to the right: numbers */
	bool cut; /* may be shortened */
	unsigned drop; /* 1, 2...: the rank in which it finds room; 0: it always does */
};

struct table; /* opaque */

/* `columns` ends with one without a title and must outlive the table. */
struct table *table_new(const struct column *columns, size_t indent);

/* The next cell, from the left; a row ends by itself. The text is cleaned; NULL is empty. */
void table_cell(struct table *t, enum colour colour, const char *text);
/* The same; what is below 0 is empty. */
void table_number(struct table *t, enum colour colour, int64_t value);
/* The same for a text that the table takes and frees. */
void table_owned(struct table *t, enum colour colour, char *text);

/* A line by itself between two rows, as print_paragraph() prints it. */
void table_line(
	struct table *t, size_t indent, const char *first, enum colour colour, const char *text);

void table_print(struct table *t);
void table_free(struct table *t);

#endif
