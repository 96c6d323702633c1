/* SPDX-License-Identifier: MIT */
#include "initctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/memory.h"
#include "initctl/text.h"

#define GAP 2
#define CUT_TO 12 /* a column is not cut shorter than this */

struct cell {
	char *text; /* clean */
	size_t width;
	enum colour colour;
};

/* A row of cells, or with `first` a line by itself, whose text is in the only cell. */
struct row {
	struct cell *cells;
	size_t n_cells;
	const char *first;
	size_t indent;
};

struct table {
	const struct column *columns;
	size_t n_columns;
	size_t indent;
	struct row *rows;
	size_t n_rows;
	size_t capacity;
	size_t *widths; /* of each column, as it will be printed; 0: not shown */
};

struct table *table_new(const struct column *columns, size_t indent)
{
	struct table *t = allocate(sizeof(*t));

	t->columns = columns;
	t->indent = indent;
	while (columns[t->n_columns].title)
		t->n_columns++;
	t->widths = allocate(t->n_columns * sizeof(*t->widths));
	return t;
}

static struct row *add_row(struct table *t, size_t n_cells)
{
	if (!t->rows || t->n_rows == t->capacity) {
		t->capacity = t->capacity ? t->capacity * 2 : 16;
		t->rows = reallocate(t->rows, t->capacity, sizeof(*t->rows));
	}
	struct row *row = &t->rows[t->n_rows++];
	*row = (struct row){.cells = allocate(n_cells * sizeof(*row->cells))};
	return row;
}

static struct row *open_row(struct table *t)
{
	struct row *last = t->n_rows > 0 ? &t->rows[t->n_rows - 1] : NULL;
	bool open = last && !last->first && last->n_cells < t->n_columns;

	return open ? last : add_row(t, t->n_columns);
}

void table_cell(struct table *t, enum colour colour, const char *text)
{
	struct row *row = open_row(t);
	struct cell *cell = &row->cells[row->n_cells++];

	cell->text = text_clean(text ? text : "");
	cell->width = text_width(cell->text);
	cell->colour = colour;
}

void table_owned(struct table *t, enum colour colour, char *text)
{
	table_cell(t, colour, text);
	free(text);
}

void table_number(struct table *t, enum colour colour, int64_t value)
{
	table_owned(t, colour, value < 0 ? NULL : format_text("%" PRId64, value));
}

void table_line(
	struct table *t, size_t indent, const char *first, enum colour colour, const char *text)
{
	struct row *row = add_row(t, 1);

	row->first = first;
	row->indent = indent;
	row->n_cells = 1;
	row->cells[0].text = copy_text(text);
	row->cells[0].colour = colour;
}

static void measure_column(struct table *t, size_t column)
{
	size_t widest = 0;

	for (size_t i = 0; i < t->n_rows; i++) {
		if (!t->rows[i].first && t->rows[i].cells[column].width > widest)
			widest = t->rows[i].cells[column].width;
	}
	size_t title = text_width(t->columns[column].title);
	t->widths[column] = widest > 0 && widest < title ? title : widest;
}

static size_t total_width(const struct table *t)
{
	size_t total = t->indent;
	size_t shown = 0;

	for (size_t i = 0; i < t->n_columns; i++) {
		total += t->widths[i];
		shown += t->widths[i] > 0;
	}
	return total + (shown > 1 ? (shown - 1) * GAP : 0);
}

/* Takes up to `excess` columns from those that may be cut, the last one first. */
static void cut_columns(struct table *t, size_t excess)
{
	for (size_t i = t->n_columns; i-- > 0 && excess > 0;) {
		size_t spare = t->widths[i] > CUT_TO ? t->widths[i] - CUT_TO : 0;

		if (!t->columns[i].cut)
			continue;
		spare = spare < excess ? spare : excess;
		t->widths[i] -= spare;
		excess -= spare;
	}
}

/* The width with every column as it is, but those that may be cut as short as they may get. */
static size_t least_width(const struct table *t)
{
	size_t least = total_width(t);

	for (size_t i = 0; i < t->n_columns; i++) {
		if (t->columns[i].cut && t->widths[i] > CUT_TO)
			least -= t->widths[i] - CUT_TO;
	}
	return least;
}

/* Shows again the hidden column of that rank, if there is room for it. */
static void show_rank(struct table *t, const size_t *natural, unsigned rank)
{
	for (size_t i = 0; i < t->n_columns; i++) {
		if (t->columns[i].drop != rank)
			continue;
		t->widths[i] = natural[i];
		if (least_width(t) > terminal()->width)
			t->widths[i] = 0;
	}
}

/* What is too wide even so is cut at the end of each line. */
static void fit(struct table *t)
{
	size_t *natural = allocate(t->n_columns * sizeof(*natural));

	memcpy(natural, t->widths, t->n_columns * sizeof(*natural));
	for (size_t i = 0; i < t->n_columns; i++) {
		if (t->columns[i].drop > 0)
			t->widths[i] = 0;
	}
	for (unsigned rank = 1; rank <= t->n_columns; rank++)
		show_rank(t, natural, rank);
	free(natural);

	size_t total = total_width(t);
	if (total > terminal()->width)
		cut_columns(t, total - terminal()->width);
}

/* Prints at most `width` columns of a cell and returns how many it took. */
static size_t print_cut(const struct cell *cell, size_t width)
{
	const char *ellipsis = terminal()->ellipsis;

	if (cell->width <= width) {
		print_coloured(cell->colour, cell->text);
		return cell->width;
	}
	if (width == 0)
		return 0;
	char *cut = format_text(
		"%.*s%s", (int)text_prefix(cell->text, width - 1), cell->text, ellipsis);
	size_t used = text_width(cut);
	print_coloured(cell->colour, cut);
	free(cut);
	return used;
}

static bool is_last_text(const struct table *t, const struct cell *cells, size_t column)
{
	for (size_t i = column + 1; i < t->n_columns; i++) {
		if (t->widths[i] > 0 && cells[i].width > 0)
			return false;
	}
	return true;
}

static void print_cells(const struct table *t, const struct cell *cells)
{
	size_t left = terminal()->width;
	size_t pad =
		t->indent; /* spaces owed before the next text; none are left at a line's end */

	for (size_t i = 0; i < t->n_columns && pad < left; i++) {
		size_t width = t->widths[i];
		size_t text = cells[i].width < width ? cells[i].width : width;

		if (width == 0)
			continue;
		if (t->columns[i].right)
			pad += width - text;
		if (pad >= left)
			break;
		(void)printf("%*s", (int)pad, "");
		left -= pad;
		size_t used = print_cut(&cells[i], width < left ? width : left);
		left -= used;
		if (is_last_text(t, cells, i))
			break;
		pad = GAP + (t->columns[i].right ? 0 : width - (used < width ? used : width));
	}
	(void)putchar('\n');
}

static void print_titles(const struct table *t)
{
	struct cell *cells = allocate(t->n_columns * sizeof(*cells));

	for (size_t i = 0; i < t->n_columns; i++) {
		cells[i].text = copy_text(t->columns[i].title);
		cells[i].width = text_width(cells[i].text);
		cells[i].colour = COLOUR_DIM;
	}
	print_cells(t, cells);
	for (size_t i = 0; i < t->n_columns; i++)
		free(cells[i].text);
	free(cells);
}

void table_print(struct table *t)
{
	for (size_t i = 0; i < t->n_columns; i++)
		measure_column(t, i);
	fit(t);
	print_titles(t);
	for (size_t i = 0; i < t->n_rows; i++) {
		const struct row *row = &t->rows[i];

		if (row->first)
			print_paragraph(
				row->indent, row->first, row->cells[0].colour, row->cells[0].text);
		else
			print_cells(t, row->cells);
	}
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->n_rows; i++) {
		for (size_t c = 0; c < t->rows[i].n_cells; c++)
			free(t->rows[i].cells[c].text);
		free(t->rows[i].cells);
	}
	free(t->rows);
	free(t->widths);
	free(t);
}
