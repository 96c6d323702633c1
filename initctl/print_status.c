/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "initctl/format.h"
#include "initctl/memory.h"
#include "initctl/print.h"
#include "initctl/table.h"
#include "initctl/text.h"

static bool is_one_of(const char *text, const char *const *list)
{
	while (*list && strcmp(text, *list) != 0)
		list++;
	return *list != NULL;
}

bool state_is_active(const char *state)
{
	static const char *const active[] = {"running", "reloading", "exited", NULL};

	return is_one_of(state, active);
}

/* At rest without a program; the other states are on the way from one to the other. */
static bool state_is_inactive(const char *state)
{
	return strcmp(state, "inactive") == 0;
}

enum colour state_colour(const char *state)
{
	if (state_is_active(state))
		return COLOUR_GREEN;
	if (strcmp(state, "failed") == 0)
		return COLOUR_RED;
	return state_is_inactive(state) ? COLOUR_DIM : COLOUR_YELLOW;
}

/* ---- the line about the system ---- */

static void print_system_facts(const struct record *system)
{
	char *up = format_span(record_get_int(system, "up_usec", 0));
	char *rss = format_bytes(record_get_int(system, "rss_bytes", 0));
	char *facts = format_text("%s; Linux %s; up %s; PID 1 takes %s", field(system, "image"),
		field(system, "kernel"), up, rss);

	print_paragraph(2, "", COLOUR_NONE, facts);
	free(facts);
	free(rss);
	free(up);
}

static void print_system(const struct record *system)
{
	const char *state = field(system, "state");
	bool well = strcmp(state, "running") == 0;
	char *head = format_text(
		"molt %s, generation %s, %s", system->id, field(system, "generation"), state);

	print_paragraph(0, "", well ? COLOUR_BOLD : state_colour(state), head);
	free(head);
	print_system_facts(system);
}

void print_attached(const struct answer *a)
{
	const struct record *attached = answer_find(a, "attached");
	int64_t left = attached ? record_get_int(attached, "left_usec", -1) : -1;

	if (!attached)
		return;
	bool committed = record_get_bool(attached, "committed", false);
	char *span = left < 0 ? copy_text("") : format_span(left);
	char *text =
		committed ? format_text("Generation %s is attached%s%s%s: `initctl rollback` goes "
					"back to it, `initctl release` lets it go.",
				    attached->id, left < 0 ? " until the next upgrade" : " for ",
				    span, left < 0 ? "" : " yet")
			  : format_text("The upgrade to this generation is not committed: "
					"`initctl commit` keeps it, `initctl rollback` undoes "
					"it%s%s%s.",
				    left < 0 ? "" : "; in ", span,
				    left < 0 ? "" : " it is rolled back by itself");
	print_paragraph(2, "", committed ? COLOUR_NONE : COLOUR_YELLOW, text);
	free(text);
	free(span);
}

void print_scheduled(const struct answer *a)
{
	const struct record *s = answer_find(a, "scheduled");

	if (!s)
		return;
	time_t at = (time_t)(record_get_int(s, "at_usec", 0) / 1000000);
	char when[64] = "";
	struct tm tm;
	if (localtime_r(&at, &tm))
		(void)strftime(when, sizeof(when), "%a %Y-%m-%d %H:%M:%S %Z", &tm);
	char *left = format_span(record_get_int(s, "left_usec", 0) + 500000); /* rounded */
	const char *message = field(s, "message");
	char *text =
		format_text("Scheduled: %s in %s (%s)%s%s%s; `initctl shutdown -c` cancels it.",
			s->id, left, when, *message ? ", \"" : "", message, *message ? "\"" : "");
	print_paragraph(2, "", COLOUR_YELLOW, text);
	free(text);
	free(left);
}

/* ---- the table of services ---- */

static const struct column status_columns[] = {
	{.title = "SERVICE", .cut = true},
	{.title = "STATE"},
	{.title = "FOR", .drop = 3},
	{.title = "PID", .right = true, .drop = 2},
	{.title = "MEMORY", .right = true, .drop = 5},
	{.title = "RESTARTS", .right = true, .drop = 6},
	{.title = "UPGRADE", .drop = 4},
	{.title = "GEN", .right = true, .drop = 7},
	{.title = "STATUS", .cut = true, .drop = 1},
	{0},
};

/* Of a program that runs, what it says of itself; else why it does not. */
static const char *best_status(const struct record *unit)
{
	bool active = state_is_active(field(unit, "state"));
	const char *status = active ? field(unit, "status") : field(unit, "result");

	return *status ? status : field(unit, "description");
}

bool runs_old_code(const struct record *unit, int64_t generation)
{
	int64_t code = record_get_int(unit, "exe_generation", 0);

	return code > 0 && code < generation;
}

static void add_unit(struct table *t, const struct record *unit, int64_t generation)
{
	const char *state = field(unit, "state");
	int64_t since = record_get_int(unit, "state_usec", -1);
	int64_t memory = record_get_int(unit, "memory_bytes", -1);
	int64_t restarts = record_get_int(unit, "restarts", 0);
	int64_t pid = record_get_int(unit, "main_pid", 0);
	enum colour code = runs_old_code(unit, generation) ? COLOUR_YELLOW : COLOUR_NONE;

	table_owned(t, COLOUR_NONE, format_service(unit->id));
	table_cell(t, state_colour(state), state);
	table_owned(t, COLOUR_NONE, since < 0 ? NULL : format_span(since));
	table_number(t, COLOUR_NONE, pid > 0 ? pid : -1);
	table_owned(t, COLOUR_NONE, memory < 0 ? NULL : format_bytes(memory));
	table_number(t, restarts > 0 ? COLOUR_YELLOW : COLOUR_NONE, restarts > 0 ? restarts : -1);
	table_cell(t, COLOUR_NONE, field(unit, "policy"));
	table_number(t, code, record_get_int(unit, "exe_generation", -1));
	table_cell(t, COLOUR_DIM, best_status(unit));
}

static int compare_ids(const void *a, const void *b)
{
	const struct record *const *left = a;
	const struct record *const *right = b;

	return strcmp((*left)->id, (*right)->id);
}

static void print_unit_table(const struct record **units, size_t n, int64_t generation)
{
	struct table *t = table_new(status_columns, 0);

	qsort(units, n, sizeof(*units), compare_ids);
	for (size_t i = 0; i < n; i++)
		add_unit(t, units[i], generation);
	table_print(t);
	table_free(t);
}

/* ---- what the table comes to ---- */

struct tally {
	size_t active, inactive, failed, changing, old_code;
	const char *first_failed;
};

static struct tally count_units(const struct record **units, size_t n, int64_t generation)
{
	struct tally tally = {0};

	for (size_t i = 0; i < n; i++) {
		const char *state = field(units[i], "state");

		tally.old_code += runs_old_code(units[i], generation);
		if (state_is_active(state))
			tally.active++;
		else if (state_is_inactive(state))
			tally.inactive++;
		else if (strcmp(state, "failed") != 0)
			tally.changing++;
		else if (tally.failed++ == 0)
			tally.first_failed = units[i]->id;
	}
	return tally;
}

static void print_owned_paragraph(char *text)
{
	print_paragraph(0, "", COLOUR_NONE, text);
	free(text);
}

static void print_tally(const struct tally *tally, size_t n)
{
	char *changing = tally->changing > 0 ? format_text(", %zu on the way", tally->changing)
					     : copy_text("");

	print_owned_paragraph(format_text("%zu service%s: %zu active, %zu failed, %zu inactive%s.",
		n, n == 1 ? "" : "s", tally->active, tally->failed, tally->inactive, changing));
	free(changing);
	if (tally->first_failed) {
		char *name = format_service(tally->first_failed);
		print_owned_paragraph(
			format_text("%s failed: `initctl log %s` may say why.", name, name));
		free(name);
	}
	if (tally->old_code > 0)
		print_owned_paragraph(format_text(
			"%zu of them run%s code of an older generation: `initctl holders`.",
			tally->old_code, tally->old_code == 1 ? "s" : ""));
}

static void print_choice(const struct answer *a, const struct record *system)
{
	print_attached(a);
	/* A PID 1 of before does not tell when. */
	if (!answer_find(a, "attached") && strcmp(field(system, "state"), "uncommitted") == 0)
		print_paragraph(2, "", COLOUR_YELLOW,
			"The upgrade to this generation is not committed: `initctl commit` keeps "
			"it, `initctl rollback` undoes it.");
}

static void status_people(const struct answer *a)
{
	const struct record *system = answer_find(a, "system");
	int64_t generation = system ? record_get_int(system, "generation", 0) : 0;
	size_t n;
	const struct record **units = answer_select(a, "unit", &n);

	if (system) {
		print_system(system);
		print_choice(a, system);
		print_scheduled(a);
		(void)putchar('\n');
	}
	print_warnings(a);
	if (n > 0) {
		struct tally tally;

		print_unit_table(units, n, generation);
		tally = count_units(units, n, generation);
		(void)putchar('\n');
		print_tally(&tally, n);
	} else if (system) {
		print_paragraph(0, "", COLOUR_NONE, "No services.");
	}
	free(units);
}

void status_json(struct json *j, const struct answer *a)
{
	json_first_record(j, "system", a, "system");
	json_first_record(j, "attached", a, "attached");
	json_first_record(j, "scheduled", a, "scheduled");
	json_records(j, "services", a, "unit");
}

const struct renderer render_status = {status_people, status_json};
