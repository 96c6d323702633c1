/* SPDX-License-Identifier: MIT */
#include "initctl/verbs.h"

#include <stdio.h>
#include <string.h>

#include "initctl/help.h"

const struct verb verbs[] = {
	{"status", "[NAME]", SUBJECT_SERVICE, 0, 1, OPTION_JSON, run_status, NULL,
		"the system and its services, or one service in full"},
	{"start", "NAME...", SUBJECT_SERVICE, 1, ARGUMENTS_ANY, OPTION_JSON, run_services, NULL,
		"start services and what they require"},
	{"stop", "NAME...", SUBJECT_SERVICE, 1, ARGUMENTS_ANY, OPTION_JSON, run_services, NULL,
		"stop services"},
	{"restart", "NAME...", SUBJECT_SERVICE, 1, ARGUMENTS_ANY, OPTION_JSON, run_services, NULL,
		"stop services and start them again"},
	{"reload", "NAME...", SUBJECT_SERVICE, 1, ARGUMENTS_ANY, OPTION_JSON, run_services, NULL,
		"have services read their configuration again"},
	{"blame", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_blame,
		"what the boot took its time for: its stages and services"},
	{"log", "NAME", SUBJECT_LOG, 1, 1, OPTION_JSON | OPTION_FOLLOW | OPTION_LINES, run_log,
		NULL, "the last lines of a service's output, or of the log of \"init\""},
	{"plan", "IMAGE", SUBJECT_IMAGE, 1, 1, OPTION_JSON | OPTIONS_IMAGE, run_document,
		&render_plan, "what an upgrade to IMAGE would do, and what forbids it"},
	{"upgrade", "IMAGE", SUBJECT_IMAGE, 1, 1,
		OPTION_JSON | OPTION_DRY_RUN | OPTION_FORCE | OPTIONS_COMMIT | OPTIONS_IMAGE,
		run_transaction, NULL, "put the system on IMAGE while it runs"},
	{"commit", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_transaction, NULL,
		"keep the upgrade that is not committed yet"},
	{"rollback", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_transaction, NULL,
		"go back to the generation before, as long as it is attached"},
	{"release", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"let go of the generation before: no way back to it"},
	{"holders", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_holders,
		"processes that still refer to an older generation"},
	{"reexec", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"have PID 1 execute itself anew; the services run on"},
	{"poweroff", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"stop everything and switch off"},
	{"reboot", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"stop everything and boot again"},
	{"halt", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"stop everything and leave the power on"},
	{"kexec", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"stop everything and boot the kernel that `kexec -l` has loaded"},
	{"single", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_result,
		"stop every service for a root shell; its end starts them again"},
	{"version", "", SUBJECT_NONE, 0, 0, OPTION_JSON, run_document, &render_version,
		"the versions of initctl and of PID 1"},
	{"help", "[VERB]", SUBJECT_VERB, 0, 1, 0, run_help, NULL, "this text, or that of one verb"},
	{0},
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++) {
		if (strcmp(v->name, name) == 0)
			return v;
	}
	return NULL;
}

#define WORD_MAX 16 /* of what may be a mistyped verb */

static size_t smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* The edits that make one word of the other: a letter more, less, another, or two exchanged. */
static size_t distance(const char *a, const char *b)
{
	size_t d[WORD_MAX + 1][WORD_MAX + 1];
	size_t rows = strlen(a);
	size_t columns = strlen(b);

	for (size_t i = 0; i <= rows; i++)
		d[i][0] = i;
	for (size_t k = 0; k <= columns; k++)
		d[0][k] = k;
	for (size_t i = 1; i <= rows; i++) {
		for (size_t k = 1; k <= columns; k++) {
			bool other = a[i - 1] != b[k - 1];

			d[i][k] =
				smallest(d[i - 1][k] + 1, d[i][k - 1] + 1, d[i - 1][k - 1] + other);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
				d[i - 2][k - 2] + 1 < d[i][k])
				d[i][k] = d[i - 2][k - 2] + 1;
		}
	}
	return d[rows][columns];
}

const char *verb_nearest(const char *name)
{
	const char *nearest = NULL;
	size_t best = 3; /* three edits make another word of most */

	if (strlen(name) > WORD_MAX)
		return NULL;
	for (const struct verb *v = verbs; v->name; v++) {
		size_t edits = distance(name, v->name);
		bool prefix = *name && strncmp(v->name, name, strlen(name)) == 0;

		if (prefix)
			edits = 1;
		if (edits < best && edits < strlen(v->name) - 1) {
			best = edits;
			nearest = v->name;
		}
	}
	return nearest;
}
