/* SPDX-License-Identifier: MIT */
/* telinit(8), and `init N` said by a person. */
#include <stdio.h>
#include <string.h>

#include "initctl/command.h"
#include "initctl/connection.h"
#include "initctl/legacy.h"

static const char USAGE[] =
	"usage: telinit 0 | 1 | 6 | 2..5 | q | u\n\n"
	"  0      stop everything and switch off\n"
	"  1, s   single-user mode: stop every service, and a root shell on the console\n"
	"  6      stop everything and boot again\n"
	"  2..5   nothing: these are one and the same, and it is what runs\n"
	"  q, Q   have PID 1 read init.conf again\n"
	"  u, U   have PID 1 execute itself anew\n";

static int now(const char *kind)
{
	struct when when = {0};
	struct request q = {.verb = "schedule", .kind = kind, .by = legacy_by(), .when = &when};

	return legacy_ask(&q);
}

static int plain(const char *verb)
{
	struct request q = {.verb = verb};

	return legacy_ask(&q);
}

static int carry_out(char letter)
{
	switch (letter) {
	case '0':
		return now("poweroff");
	case '6':
		return now("reboot");
	case 'q':
	case 'Q':
		return plain("configure");
	case 'u':
	case 'U':
		return plain("reexec");
	case '2':
	case '3':
	case '4':
	case '5':
		return plain("version"); /* whether there is somebody who is in it */
	case '1':
	case 's':
	case 'S':
		return plain("single");
	default:
		(void)fputs(USAGE, stderr);
		return CONTROL_EXIT_USAGE;
	}
}

int run_telinit(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";

	if (strcmp(word, "--help") == 0) {
		(void)fputs(USAGE, stdout);
		return CONTROL_EXIT_OK;
	}
	return carry_out(argc == 2 && strlen(word) == 1 ? word[0] : '\0');
}
