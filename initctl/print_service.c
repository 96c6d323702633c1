/* SPDX-License-Identifier: MIT */
/* One service in full, and the versions. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "initctl/format.h"
#include "initctl/memory.h"
#include "initctl/print.h"

#define LABEL_WIDTH 15

static void print_line(const char *label, enum colour colour, const char *text)
{
	char first[LABEL_WIDTH + 1];

	if (!*text)
		return;
	(void)snprintf(first, sizeof(first), "%-*s", LABEL_WIDTH, label);
	print_paragraph(LABEL_WIDTH, first, colour, text);
}

static void print_owned_line(const char *label, enum colour colour, char *text)
{
	print_line(label, colour, text);
	free(text);
}

static void print_state(const struct record *unit)
{
	const char *state = field(unit, "state");
	int64_t since = record_get_int(unit, "state_usec", -1);

	if (since < 0) {
		print_line("  state", state_colour(state), state);
		return;
	}
	char *span = format_span(since);
	print_owned_line("  state", state_colour(state), format_text("%s for %s", state, span));
	free(span);
}

static void print_policy(const struct record *unit, int64_t generation)
{
	int64_t code = record_get_int(unit, "exe_generation", 0);

	if (runs_old_code(unit, generation))
		print_owned_line("  upgrade", COLOUR_YELLOW,
			format_text("%s; runs code of generation %" PRId64
				    ", the system is at %" PRId64,
				field(unit, "policy"), code, generation));
	else if (code > 0)
		print_owned_line("  upgrade", COLOUR_NONE,
			format_text("%s; runs code of generation %" PRId64, field(unit, "policy"),
				code));
	else
		print_line("  upgrade", COLOUR_NONE, field(unit, "policy"));
}

static void print_memory(const struct record *unit)
{
	int64_t memory = record_get_int(unit, "memory_bytes", -1);

	if (memory >= 0)
		print_owned_line("  memory", COLOUR_NONE, format_bytes(memory));
}

static void print_unit(const struct record *unit, int64_t generation)
{
	print_clean(COLOUR_BOLD, unit->id);
	(void)putchar('\n');
	print_line("  description", COLOUR_NONE, field(unit, "description"));
	print_state(unit);
	print_line("  status", COLOUR_NONE, field(unit, "status"));
	print_line("  errno", COLOUR_NONE, field(unit, "errno"));
	print_line("  bus error", COLOUR_NONE, field(unit, "bus_error"));
	print_line("  exit status", COLOUR_NONE, field(unit, "exit_status"));
	print_line("  result", COLOUR_NONE, field(unit, "result"));
	print_line("  main pid", COLOUR_NONE, field(unit, "main_pid"));
	print_line("  restarts", COLOUR_NONE, field(unit, "restarts"));
	print_memory(unit);
	print_line("  tasks", COLOUR_NONE, field(unit, "tasks"));
	print_line("  type", COLOUR_NONE, field(unit, "type"));
	print_policy(unit, generation);
	for (size_t i = 0; record_get_nth(unit, "listen", i); i++)
		print_line(i == 0 ? "  listens on" : "", COLOUR_NONE,
			record_get_nth(unit, "listen", i));
	print_line("  file", COLOUR_NONE, field(unit, "source"));
	print_line("  log", COLOUR_NONE, field(unit, "log"));
}

static void service_people(const struct answer *a)
{
	const struct record *system = answer_find(a, "system");
	int64_t generation = system ? record_get_int(system, "generation", 0) : 0;
	const struct record *unit = answer_find(a, "unit");

	print_warnings(a);
	if (unit)
		print_unit(unit, generation);
}

const struct renderer render_service = {service_people, status_json};

static void version_people(const struct answer *a)
{
	const struct record *system = answer_find(a, "system");

	(void)printf("initctl %s\n", MOLT_VERSION);
	if (!system)
		return;
	(void)fputs("molt ", stdout);
	print_clean(COLOUR_NONE, system->id);
	(void)fputs(" as PID 1, generation ", stdout);
	print_clean(COLOUR_NONE, field(system, "generation"));
	(void)putchar('\n');
}

static void version_json(struct json *j, const struct answer *a)
{
	json_string(j, "initctl", MOLT_VERSION);
	json_first_record(j, "system", a, "system");
}

const struct renderer render_version = {version_people, version_json};
