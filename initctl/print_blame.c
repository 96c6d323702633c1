/* SPDX-License-Identifier: MIT */
/* What the boot took its time for. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/format.h"
#include "initctl/memory.h"
#include "initctl/print.h"
#include "initctl/table.h"

static const struct column columns[] = {
	{.title = "TOOK", .right = true},
	{.title = "FROM", .right = true, .drop = 1},
	{.title = "WAITED", .right = true, .drop = 3},
	{.title = "WHAT", .cut = true},
	{.title = "", .cut = true, .drop = 2},
	{0},
};

static char *format_seconds(int64_t usec)
{
	return format_text("%" PRId64 ".%03" PRId64 " s", usec / 1000000, usec / 1000 % 1000);
}

static char *format_seconds_of(const struct record *r, const char *key)
{
	int64_t usec = record_get_int(r, key, -1);

	return usec < 0 ? NULL : format_seconds(usec);
}

static int64_t end_of(const struct record *r)
{
	int64_t usec = record_get_int(r, "usec", -1);

	return usec < 0 ? -1 : record_get_int(r, "begin_usec", 0) + usec;
}

/* ---- the line that says it all ---- */

static const struct record *find_last(const struct answer *a)
{
	const struct record *last = NULL;

	for (size_t i = 0; i < a->count; i++) {
		const struct record *r = a->records[i];

		if (strcmp(r->kind, "start") == 0 && end_of(r) >= 0 &&
			(!last || end_of(r) > end_of(last)))
			last = r;
	}
	return last;
}

/* "; last: nginx +0.800 s": by how much it was later than all that was before the services. */
static char *format_last(const struct answer *a, int64_t stages)
{
	const struct record *last = find_last(a);
	int64_t later = last ? end_of(last) - stages : -1;

	if (later < 0)
		return copy_text("");
	char *name = format_service(last->id), *span = format_seconds(later);
	char *text = format_text("; last: %s +%s%s", name, span,
		record_get_bool(last, "failed", false) ? " (failed)" : "");
	free(name);
	free(span);
	return text;
}

static void print_owned(enum colour colour, size_t indent, char *text)
{
	print_paragraph(indent, "", colour, text);
	free(text);
}

static void print_total(const struct answer *a, const struct record *boot)
{
	int64_t stages = record_get_int(boot, "stages_usec", -1);
	int64_t waiting = record_get_int(boot, "waiting", 0);

	if (stages < 0) {
		print_paragraph(0, "", COLOUR_YELLOW, "Booting: the stages are not done yet.");
		return;
	}
	char *total = format_seconds(record_get_int(boot, "total_usec", 0));
	char *part = format_seconds(stages), *last = format_last(a, stages);
	print_owned(COLOUR_BOLD, 0,
		format_text("%s %s after the kernel, %s of it in stages%s.",
			waiting > 0 ? "Not yet booted: so far" : "Booted", total, part, last));
	if (waiting > 0)
		print_owned(COLOUR_YELLOW, 0,
			format_text("%" PRId64 " service%s %s not up yet.", waiting,
				waiting == 1 ? "" : "s", waiting == 1 ? "is" : "are"));
	free(total);
	free(part);
	free(last);
}

/* "Before: firmware 2.100 s, kernel 0.911 s, initramfs 0.204 s." */
static void print_before(const struct record *boot)
{
	static const char *const NAMES[] = {"firmware", "kernel", "initramfs"};
	int64_t kernel = record_get_int(boot, "kernel_usec", -1);
	int64_t initramfs = record_get_int(boot, "initramfs_usec", 0);
	int64_t spans[] = {record_get_int(boot, "firmware_usec", 0),
		kernel > initramfs ? kernel - initramfs : 0, initramfs};
	char *text = copy_text("Before that:");
	bool any = false;

	for (size_t i = 0; i < 3; i++) {
		if (spans[i] <= 0)
			continue;
		char *span = format_seconds(spans[i]);
		char *longer = format_text("%s%s %s %s", text, any ? "," : "", NAMES[i], span);
		free(span);
		free(text);
		text = longer;
		any = true;
	}
	if (any)
		print_paragraph(2, "", COLOUR_NONE, text);
	free(text);
}

/* ---- line by line ---- */

/* Who is at it still comes first: nobody knows how long it will take. */
static int compare_costs(const void *a, const void *b)
{
	int64_t left = record_get_int(*(const struct record *const *)a, "usec", INT64_MAX);
	int64_t right = record_get_int(*(const struct record *const *)b, "usec", INT64_MAX);

	return left > right ? -1 : left < right;
}

static const char *remark_on(const struct record *r)
{
	if (record_get_bool(r, "failed", false))
		return "failed";
	if (record_get_int(r, "usec", -1) >= 0)
		return field(r, "what");
	return record_get_int(r, "begin_usec", -1) < 0 ? "waits for its turn" : "is at it";
}

static void add_row(struct table *t, const struct record *r)
{
	bool failed = record_get_bool(r, "failed", false);
	bool done = record_get_int(r, "usec", -1) >= 0;
	enum colour colour = failed ? COLOUR_RED : done ? COLOUR_DIM : COLOUR_YELLOW;
	int64_t waited = record_get_int(r, "waited_usec", 0);

	table_owned(t, COLOUR_NONE, format_seconds_of(r, "usec"));
	table_owned(t, COLOUR_NONE, format_seconds_of(r, "begin_usec"));
	table_owned(t, COLOUR_NONE, waited < 1000 ? NULL : format_seconds(waited));
	table_cell(t, COLOUR_NONE, r->id);
	table_cell(t, colour, remark_on(r));
}

static void print_lines(const struct answer *a)
{
	const struct record **rows = allocate((a->count + 1) * sizeof(*rows));
	struct table *t = table_new(columns, 0);
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->records[i]->kind, "stage") == 0 ||
			strcmp(a->records[i]->kind, "start") == 0)
			rows[n++] = a->records[i];
	qsort(rows, n, sizeof(*rows), compare_costs);
	for (size_t i = 0; i < n; i++)
		add_row(t, rows[i]);
	table_print(t);
	table_free(t);
	free(rows);
}

static void blame_people(const struct answer *a)
{
	const struct record *boot = answer_find(a, "boot");

	if (!boot)
		return;
	print_total(a, boot);
	print_before(boot);
	(void)putchar('\n');
	print_lines(a);
}

static void blame_json(struct json *j, const struct answer *a)
{
	json_first_record(j, "boot", a, "boot");
	json_records(j, "stages", a, "stage");
	json_records(j, "services", a, "start");
}

const struct renderer render_blame = {blame_people, blame_json};
