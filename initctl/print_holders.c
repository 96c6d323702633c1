/* SPDX-License-Identifier: MIT */
/*
 * Holders: what processes still refer to of an older image. One process may hold hundreds of
 * things, so what is alike is one row: "file r x40".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/format.h"
#include "initctl/holder_order.h"
#include "initctl/memory.h"
#include "initctl/print.h"
#include "initctl/table.h"

#define STRANGERS_NAMED 8

static const struct column holder_columns[] = {
	{.title = "PID", .right = true},
	{.title = "COMMAND", .cut = true, .drop = 2},
	{.title = "GENERATION", .right = true, .drop = 3},
	{.title = "HOLDS"},
	{.title = "OUTCOME"},
	{.title = "PATH", .cut = true, .drop = 1},
	{0},
};

/* As many alike, those that PID 1 has only counted too. */
static size_t count_run(struct run run)
{
	size_t n = 0;

	for (const struct record **r = run.begin; r < run.end; r++) {
		int64_t more = record_get_int(*r, "more", 0);
		n += 1 + (more > 0 ? (size_t)more : 0);
	}
	return n;
}

/* "exe", "file rw fd 5", "file r x40" */
static char *describe_what(struct run run)
{
	const struct record *r = *run.begin;
	const char *mode = field(r, "mode");
	const char *fd = field(r, "fd");
	size_t n = count_run(run);

	if (n > 1)
		return format_text("%s%s%s x%zu", field(r, "what"), *mode ? " " : "", mode, n);
	return format_text(
		"%s%s%s%s%s", field(r, "what"), *mode ? " " : "", mode, *fd ? " fd " : "", fd);
}

static enum colour action_colour(const char *action)
{
	if (strcmp(action, "blocks") == 0)
		return COLOUR_RED;
	return strcmp(action, "stays") == 0 ? COLOUR_YELLOW : COLOUR_NONE;
}

static char *describe_path(struct run run)
{
	size_t more = count_run(run) - 1;
	const char *path = field(*run.begin, "path"), *part = field(*run.begin, "part");

	if (*part && more == 0)
		return format_text("%s (%s of the image)", path, part);
	return more > 0 ? format_text("%s and %zu more", path, more) : copy_text(path);
}

static char *describe_command(const struct record *r)
{
	char *user = holder_user(r);
	char *text =
		user ? format_text("%s (%s)", field(r, "comm"), user) : copy_text(field(r, "comm"));

	free(user);
	return text;
}

static void add_run(struct table *t, struct run run, bool first_of_process)
{
	const struct record *r = *run.begin;
	const char *action = field(r, "action");
	int64_t generation = record_get_int(r, "generation", 0); /* a plan need not say it */

	table_cell(t, COLOUR_NONE,
		!first_of_process         ? ""
		: strcmp(r->id, "0") == 0 ? "-" /* nobody in sight */
					  : r->id);
	table_owned(t, COLOUR_NONE, first_of_process ? describe_command(r) : copy_text(""));
	table_number(t, COLOUR_NONE, first_of_process && generation > 0 ? generation : -1);
	table_owned(t, COLOUR_NONE, describe_what(run));
	table_cell(t, action_colour(action), action);
	table_owned(t, COLOUR_NONE, describe_path(run));
}

static int compare_texts(const void *a, const void *b)
{
	const char *const *left = a;
	const char *const *right = b;

	return strcmp(*left, *right);
}

/* Each text once. */
static void add_texts(struct table *t, struct run group, const char *key, const char *mark)
{
	size_t n = (size_t)(group.end - group.begin);
	const char **sorted = allocate(n * sizeof(*sorted));
	const char *last = "";

	for (size_t i = 0; i < n; i++)
		sorted[i] = field(group.begin[i], key);
	qsort(sorted, n, sizeof(*sorted), compare_texts);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(sorted[i], last) != 0)
			table_line(t, 5, mark, COLOUR_NONE, sorted[i]);
		last = sorted[i];
	}
	free(sorted);
}

/* "nginx (Policy=reexec)": a plan tells of the services too. */
static char *describe_group(const struct answer *a, const char *unit)
{
	size_t n;
	const struct record **services = answer_select(a, "service", &n);
	char *name = format_service(unit), *text = NULL;

	for (size_t i = 0; i < n && !text; i++)
		if (strcmp(services[i]->id, unit) == 0)
			text = format_text("%s (Policy=%s)", name, field(services[i], "policy"));
	free(services);
	if (!text)
		return name;
	free(name);
	return text;
}

static void add_group(struct table *t, const struct answer *a, struct run group)
{
	const char *unit = field(*group.begin, "unit");
	char *name =
		*unit ? describe_group(a, unit) : copy_text("no service (sessions and the like)");
	const struct record *previous = NULL;

	table_line(t, 0, "", COLOUR_BOLD, name);
	for (const struct record **r = group.begin; r < group.end;) {
		struct run run = next_run(r, compare_holders);

		add_run(t, run, !previous || compare_processes(previous, *r) != 0);
		previous = *r;
		r = run.end;
	}
	add_texts(t, group, "why", "  -- ");
	add_texts(t, group, "advice", "  -> ");
	free(name);
}

void print_holder_table(const struct answer *a)
{
	size_t n;
	const struct record **holders = sorted_holders(a, &n);
	struct table *t = table_new(holder_columns, 2);

	for (const struct record **r = holders; *r;) {
		struct run group = next_run(r, compare_units);

		add_group(t, a, group);
		r = group.end;
	}
	if (n > 0)
		table_print(t);
	table_free(t);
	free(holders);
}

/* ---- what to do about them ---- */

/* What the upgrade itself takes along is nobody's to release, and what blocks it is said elsewhere.
 */
static bool needs_a_person(const struct record *r, bool planned)
{
	const char *action = field(r, "action");

	if (planned)
		return strcmp(action, "stays") == 0;
	return strcmp(action, "migrate") != 0 && strcmp(action, "replace") != 0;
}

static bool run_needs_a_person(struct run run, bool planned)
{
	for (const struct record **r = run.begin; r < run.end; r++) {
		if (needs_a_person(*r, planned))
			return true;
	}
	return false;
}

static void append(char **text, const char *separator, const char *more)
{
	char *longer = format_text("%s%s%s", *text, **text ? separator : "", more);

	free(*text);
	*text = longer;
}

/* The services, as the arguments of a command; the caller's to free. */
static char *list_units(const struct record **holders, bool planned, size_t *ret_count)
{
	char *names = copy_text("");

	*ret_count = 0;
	for (const struct record **r = holders; *r && is_service(field(*r, "unit"));) {
		struct run group = next_run(r, compare_units);

		if (run_needs_a_person(group, planned)) {
			char *name = format_service(field(*r, "unit"));
			append(&names, " ", name);
			free(name);
			++*ret_count;
		}
		r = group.end;
	}
	return names;
}

static void print_unit_advice(const struct record **holders, bool planned)
{
	size_t n;
	char *names = list_units(holders, planned, &n);
	char *who = n == 1 ? copy_text(names) : format_text("%zu services", n);
	char *text;

	if (planned)
		text = format_text(
			"%s will stay on the old image: after the upgrade `initctl restart %s`"
			" releases it.",
			who, names);
	else
		text = format_text(
			"%s hold%s an older generation: `initctl restart %s` releases it.", who,
			n == 1 ? "s" : "", names);
	if (n > 0)
		print_paragraph(0, "", COLOUR_NONE, text);
	free(text);
	free(who);
	free(names);
}

/* "812 (bash), 901 (vim) and 3 more"; the caller's to free. */
static char *list_strangers(const struct record **strangers, bool planned, size_t *ret_count)
{
	char *names = copy_text("");
	size_t n = 0;

	for (const struct record **r = strangers; *r;) {
		struct run process = next_run(r, compare_processes);

		if (strcmp((*r)->id, "0") != 0 && run_needs_a_person(process, planned) &&
			++n <= STRANGERS_NAMED) {
			char *name = holder_name(*r);
			append(&names, ", ", name);
			free(name);
		}
		r = process.end;
	}
	if (n > STRANGERS_NAMED) {
		char *more = format_text("%zu more", n - STRANGERS_NAMED);
		append(&names, " and ", more);
		free(more);
	}
	*ret_count = n;
	return names;
}

static void print_stranger_advice(const struct record **strangers, bool planned)
{
	size_t n;
	char *names = list_strangers(strangers, planned, &n);
	char *text = format_text("%s %s no service: log out of %s or end %s.", names,
		n == 1 ? "belongs to" : "belong to", n == 1 ? "the session" : "the sessions",
		n == 1 ? "it" : "them");

	if (n > 0)
		print_paragraph(0, "", COLOUR_NONE, text);
	free(text);
	free(names);
}

void print_holder_advice(const struct answer *a, bool planned)
{
	size_t n;
	const struct record **holders = sorted_holders(a, &n);
	const struct record **strangers = holders;

	while (*strangers && is_service(field(*strangers, "unit")))
		strangers++;
	print_unit_advice(holders, planned);
	print_stranger_advice(strangers, planned);
	free(holders);
}

/* ---- initctl holders ---- */

static void holders_people(const struct answer *a)
{
	print_warnings(a);
	print_attached(a);
	if (!answer_find(a, "holder")) {
		if (a->result.exit == CONTROL_EXIT_OK)
			print_paragraph(
				0, "", COLOUR_NONE, "No process holds an older generation.");
		return;
	}
	print_holder_table(a);
	(void)putchar('\n');
	print_holder_advice(a, false);
}

static void holders_json(struct json *j, const struct answer *a)
{
	json_first_record(j, "attached", a, "attached");
	json_records(j, "holders", a, "holder");
	json_texts(j, "warnings", a, "warning");
}

const struct renderer render_holders = {holders_people, holders_json};
