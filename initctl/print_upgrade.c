/* SPDX-License-Identifier: MIT */
#include "initctl/print_upgrade.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "initctl/memory.h"
#include "initctl/print.h"
#include "initctl/text.h"

#define PHASE_WIDTH 12

/* ---- for people ---- */

static void print_head(const struct record *plan)
{
	char *text = format_text("Upgrade to generation %s: %s (%s -> %s)",
		field(plan, "generation"), plan->id, field(plan, "from"), field(plan, "to"));

	print_paragraph(0, "", COLOUR_BOLD, text);
	free(text);
}

static double milliseconds(const struct record *r)
{
	return (double)record_get_int(r, "usec", 0) / 1000;
}

static void print_phase(const struct record *phase)
{
	char *name = text_clean(phase->id);

	(void)printf("  %-*s %10.1f ms", PHASE_WIDTH, name, milliseconds(phase));
	if (record_get_bool(phase, "blackout", false)) {
		(void)fputs("  ", stdout);
		print_coloured(COLOUR_YELLOW, "frozen");
	}
	(void)putchar('\n');
	free(name);
}

static void print_blackout(const struct record *blackout)
{
	int64_t processes = record_get_int(blackout, "processes", 0);
	int64_t left = record_get_int(blackout, "left", 0);
	char *what = processes > 0 ? format_text("in all, of %" PRId64 " processes", processes)
				   : copy_text("in all");

	(void)printf("  %-*s %10.1f ms  ", PHASE_WIDTH, "blackout", milliseconds(blackout));
	print_coloured(COLOUR_BOLD, what);
	/* The programs and libraries of what has not been started anew yet, above all: what is left
	 * of them in the end is advised on there. */
	if (left > 0)
		(void)printf("; %" PRId64 " reference%s to the old image not moved", left,
			left == 1 ? "" : "s");
	(void)putchar('\n');
	free(what);
}

static void print_hook(const struct record *hook)
{
	bool failed = record_get_bool(hook, "failed", false);
	const char *said = field(hook, "text");
	char *text = failed ? copy_text(said)
			    : format_text("%s: %s (%.1f ms)", hook->id, *said ? said : "done",
				      milliseconds(hook));

	print_paragraph(4, "", failed ? COLOUR_RED : COLOUR_NONE, text);
	free(text);
}

/* Shows a record as it arrives. False for one that makes sense only among its like: it is kept. */
static bool print_live(const struct record *r)
{
	if (strcmp(r->kind, "plan") == 0)
		print_head(r);
	else if (strcmp(r->kind, "phase") == 0)
		print_phase(r);
	else if (strcmp(r->kind, "blackout") == 0)
		print_blackout(r);
	else if (strcmp(r->kind, "progress") == 0)
		print_paragraph(4, "", COLOUR_NONE, field(r, "text"));
	else if (strcmp(r->kind, "hook") == 0 && record_get(r, "usec"))
		print_hook(r); /* it has run; without a time it is a line of the plan */
	else if (strcmp(r->kind, "blocker") == 0)
		print_paragraph(11, "  blocker: ", COLOUR_RED, field(r, "text"));
	else if (strcmp(r->kind, "warning") == 0)
		print_paragraph(11, "  warning: ", COLOUR_YELLOW, field(r, "text"));
	else
		return false;
	return true;
}

/* In a dry run all but the phases is the plan, and the plan is shown in one piece. */
static bool belongs_to_plan(const struct record *r)
{
	return strcmp(r->kind, "phase") != 0 && strcmp(r->kind, "blackout") != 0 &&
	       strcmp(r->kind, "progress") != 0;
}

static void take_for_people(struct timeline *t, const struct record *r)
{
	if ((t->dry_run && belongs_to_plan(r)) || !print_live(r))
		answer_keep(&t->kept, r);
}

bool timeline_has_outcome(const struct result *result)
{
	return result->exit == CONTROL_EXIT_OK || result->exit == CONTROL_EXIT_FAILED ||
	       result->exit == CONTROL_EXIT_REFUSED || result->exit == CONTROL_EXIT_ROLLED_BACK;
}

static enum colour outcome_colour(const struct result *result)
{
	if (result->exit == CONTROL_EXIT_OK)
		return COLOUR_GREEN;
	return result->exit == CONTROL_EXIT_REFUSED ? COLOUR_YELLOW : COLOUR_RED;
}

static void end_for_people(struct timeline *t, const struct result *result)
{
	if (t->dry_run && t->kept.count > 0) {
		(void)putchar('\n');
		print_plan_body(&t->kept);
		(void)putchar('\n');
	} else if (result->exit == CONTROL_EXIT_OK) {
		print_holder_advice(&t->kept, false);
	}
	if (!timeline_has_outcome(result))
		return;
	/* Never broken into lines: the last line is the result, whole, also for a script. */
	char *clean = text_clean(*result->text ? result->text : result->id);
	print_coloured(outcome_colour(result), clean);
	(void)putchar('\n');
	free(clean);
}

/* ---- as JSON ---- */

static void take_as_json(const struct record *r)
{
	struct json j = {0};

	if (!json_knows(r->kind))
		return;
	json_object_begin(&j, NULL);
	json_string(&j, "event", r->kind);
	json_record_members(&j, r);
	json_object_end(&j);
	json_document_end(&j);
}

static void end_as_json(const struct result *result)
{
	struct json j = {0};

	json_object_begin(&j, NULL);
	json_string(&j, "event", "result");
	json_result_members(&j, result);
	json_object_end(&j);
	json_document_end(&j);
}

/* ---- both ---- */

void timeline_record(void *userdata, const struct record *r)
{
	struct timeline *t = userdata;

	if (t->json)
		take_as_json(r);
	else
		take_for_people(t, r);
	/* Now, not when a buffer is full. A lost output is told at the end: the upgrade goes on. */
	(void)output_flush();
}

void timeline_end(struct timeline *t, const struct result *result)
{
	if (t->json)
		end_as_json(result);
	else
		end_for_people(t, result);
	answer_done(&t->kept);
}
