/* SPDX-License-Identifier: MIT */
/* Whether the C library changes, and who goes on running the old one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/format.h"
#include "initctl/holder_order.h"
#include "initctl/memory.h"
#include "initctl/print.h"

#define ID_SHOWN 8
#define PROCESSES_NAMED 20

/* Old code that an upgrade leaves running: a program, or a library in somebody's memory. */
static bool is_old_code(const struct record *r)
{
	const char *what = field(r, "what");

	if (strcmp(field(r, "action"), "stays") != 0)
		return false;
	return strcmp(what, "exe") == 0 ||
	       (strcmp(what, "map") == 0 && strstr(field(r, "path"), ".so"));
}

static bool run_is_old_code(struct run run)
{
	for (const struct record **r = run.begin; r < run.end; r++)
		if (is_old_code(*r))
			return true;
	return false;
}

static char *describe_change(const struct record *skew)
{
	const char *from = field(skew, "from"), *to = field(skew, "to");

	if (!*from || !*to)
		return format_text("%s (which has no build id to tell it by)", skew->id);
	return format_text("%s (build id %.*s -> %.*s)", skew->id, ID_SHOWN, from, ID_SHOWN, to);
}

/* "libc.so.6 (build id ...) and ld-linux-x86-64.so.2 (...)"; NULL: nothing changes. */
static char *list_changes(const struct record **skews)
{
	char *text = NULL;

	for (const struct record **s = skews; *s; s++) {
		if (record_get_bool(*s, "same", false))
			continue;
		char *one = describe_change(*s);
		char *longer = text ? format_text("%s and %s", text, one) : copy_text(one);
		free(one);
		free(text);
		text = longer;
	}
	return text;
}

static void print_service_to_restart(struct run group)
{
	char *name = format_service(field(*group.begin, "unit"));
	size_t n = 0;

	for (const struct record **r = group.begin; r < group.end;) {
		struct run process = next_run(r, compare_processes);
		if (run_is_old_code(process))
			n++;
		r = process.end;
	}
	char *text = format_text("%s, %zu process%s: `initctl restart %s` after the upgrade", name,
		n, n == 1 ? "" : "es", name);
	if (n > 0)
		print_paragraph(4, "  - ", COLOUR_NONE, text);
	free(text);
	free(name);
}

static void print_strangers_to_end(const struct record **strangers)
{
	size_t n = 0;

	for (const struct record **r = strangers; *r;) {
		struct run process = next_run(r, compare_processes);
		r = process.end;
		if (!run_is_old_code(process) || ++n > PROCESSES_NAMED)
			continue;
		char *name = holder_name(*process.begin);
		char *text = format_text("%s: log out of the session, or end it", name);
		print_paragraph(4, "  - ", COLOUR_NONE, text);
		free(text);
		free(name);
	}
	if (n <= PROCESSES_NAMED)
		return;
	char *more = format_text("and %zu more processes of no service", n - PROCESSES_NAMED);
	print_paragraph(4, "  - ", COLOUR_NONE, more);
	free(more);
}

static void print_who_stays(const struct answer *a)
{
	size_t n;
	const struct record **holders = sorted_holders(a, &n);
	const struct record **r = holders;

	while (*r && is_service(field(*r, "unit"))) {
		struct run group = next_run(r, compare_units);
		print_service_to_restart(group);
		r = group.end;
	}
	print_strangers_to_end(r);
	free(holders);
}

static bool anybody_stays(const struct answer *a)
{
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->records[i]->kind, "holder") == 0 && is_old_code(a->records[i]))
			return true;
	return false;
}

void print_skew(const struct answer *a)
{
	size_t n;
	const struct record **skews = answer_select(a, "skew", &n);
	char *changes = list_changes(skews), *text;

	if (n > 0)
		print_heading("The C library");
	if (n > 0 && !changes) {
		print_paragraph(2, "", COLOUR_NONE, "  The same in both images.");
	} else if (changes) {
		text = format_text(
			"%s: what stays on old code loads and executes the new image's.%s", changes,
			anybody_stays(a) ? " That is" : " Nobody does.");
		print_paragraph(2, "  ", COLOUR_YELLOW, text);
		print_who_stays(a);
		free(text);
	}
	free(changes);
	free(skews);
}
