/* SPDX-License-Identifier: MIT */
/* shutdown(8): now, later, or not after all. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "initctl/command.h"
#include "initctl/connection.h"
#include "initctl/format.h"
#include "initctl/legacy.h"
#include "initctl/memory.h"
#include "initctl/print.h"

static const char USAGE[] =
	"usage: shutdown [-h | -P | -r | -H] [-k] [--no-wall] [TIME [MESSAGE...]]\n"
	"       shutdown -c [--no-wall] [MESSAGE...]\n"
	"       shutdown --show\n\n"
	"TIME is \"now\", \"+MINUTES\" or \"HH:MM\"; without it, in a minute.\n\n"
	"  -P, --poweroff   switch off (what is done without an option), also -h\n"
	"  -r, --reboot     boot again; by kexec where a kernel is loaded\n"
	"  -H, --halt       stop, and leave the power on\n"
	"  -k               only say so to the people who are logged in\n"
	"  -c               cancel the one that is scheduled\n"
	"      --show       which one is\n"
	"      --no-wall    say nothing to the people who are logged in\n"
	"      --help       this text\n"
	"Of sysvinit, -a, -f, -F, -n and -t SEC are taken and mean nothing here.\n";

enum { VALUE_NO_WALL = 256, VALUE_SHOW, VALUE_HELP };

static const struct option OPTIONS[] = {{"poweroff", no_argument, NULL, 'P'},
	{"reboot", no_argument, NULL, 'r'}, {"halt", no_argument, NULL, 'H'},
	{"no-wall", no_argument, NULL, VALUE_NO_WALL}, {"show", no_argument, NULL, VALUE_SHOW},
	{"help", no_argument, NULL, VALUE_HELP}, {0}};

struct shutdown_line {
	const char *kind;
	bool cancel, only_warn, no_wall, show, help;
};

static bool take(int value, struct shutdown_line *line)
{
	switch (value) {
	case 'h':
		if (strcmp(line->kind, "halt") != 0)
			line->kind = "poweroff";
		return true;
	case 'P':
		line->kind = "poweroff";
		return true;
	case 'r':
		line->kind = "reboot";
		return true;
	case 'H':
		line->kind = "halt";
		return true;
	case 'k':
		line->only_warn = true;
		return true;
	case 'c':
		line->cancel = true;
		return true;
	case VALUE_NO_WALL:
		line->no_wall = true;
		return true;
	case VALUE_SHOW:
		line->show = true;
		return true;
	case VALUE_HELP:
		line->help = true;
		return true;
	default:
		return value != '?' && value != ':';
	}
}

static char *join(char **words, int n)
{
	char *text = copy_text("");

	for (int i = 0; i < n; i++) {
		char *longer = format_text("%s%s%s", text, i ? " " : "", words[i]);
		free(text);
		text = longer;
	}
	return text;
}

static int show(void)
{
	struct answer a;
	struct request q = {.verb = "status"};

	ask_all(&q, &a);
	int code = (int)a.result.exit;
	if (code != CONTROL_EXIT_OK)
		complain(a.result.text);
	else if (answer_find(&a, "scheduled"))
		print_scheduled(&a);
	else
		(void)puts("No shutdown is scheduled.");
	answer_done(&a);
	return code;
}

static int go(const struct shutdown_line *line, char **words, int n)
{
	struct request q = {.verb = line->cancel ? "cancel" : "schedule",
		.by = legacy_by(),
		.no_wall = line->no_wall};
	struct when when = {0};
	const char *time_text = n > 0 ? words[0] : "+1";
	int first = line->cancel || n == 0 ? 0 : 1;

	if (!line->cancel) {
		if (when_parse(time_text, time(NULL), &when) < 0) {
			char *text = format_text(
				"not a time: \"%s\" (now, +MINUTES or HH:MM)", time_text);
			complain(text);
			free(text);
			return CONTROL_EXIT_USAGE;
		}
		q.kind = line->kind;
		q.when = &when;
		q.only_warn = line->only_warn;
	}
	char *message = join(words + first, n - first);
	q.message = *message ? message : NULL;
	int code = legacy_ask(&q);
	free(message);
	if (code == CONTROL_EXIT_OK && !line->cancel && !line->only_warn && (when.at || when.usec))
		code = show();
	return code;
}

int run_shutdown(int argc, char **argv)
{
	struct shutdown_line line = {.kind = "poweroff"};
	int value;

	opterr = 0;
	optind = 1;
	while ((value = getopt_long(argc, argv, "+hPrHkcafFnt:", OPTIONS, NULL)) != -1) {
		if (!take(value, &line)) {
			(void)fputs(USAGE, stderr);
			return CONTROL_EXIT_USAGE;
		}
	}
	if (line.help) {
		(void)fputs(USAGE, stdout);
		return CONTROL_EXIT_OK;
	}
	return line.show ? show() : go(&line, argv + optind, argc - optind);
}
