/* SPDX-License-Identifier: MIT */
#include "initctl/legacy.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "initctl/answer.h"
#include "initctl/command.h"

const char *legacy_by(void)
{
	static char text[64];
	const struct passwd *user = getpwuid(getuid());
	const char *tty = isatty(STDIN_FILENO) ? ttyname(STDIN_FILENO) : NULL;

	if (tty && strncmp(tty, "/dev/", 5) == 0)
		tty += 5;
	(void)snprintf(text, sizeof(text), "%s%s%s%s", user ? user->pw_name : "root",
		tty ? " (" : "", tty ? tty : "", tty ? ")" : "");
	return text;
}

int legacy_ask(const struct request *q)
{
	struct answer a;

	ask_all(q, &a);
	int code = (int)a.result.exit;
	if (code != CONTROL_EXIT_OK)
		complain(*a.result.text ? a.result.text : a.result.id);
	answer_done(&a);
	return code;
}

bool legacy_run(int argc, char **argv, int *ret_code)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
		bool is_verb; /* `initctl shutdown`; the others are verbs of their own */
	} COMMANDS[] = {
		{"shutdown", run_shutdown, true},
		{"telinit", run_telinit, true},
		{"init", run_telinit, false},
		{"reboot", run_halt_reboot_poweroff, false},
		{"halt", run_halt_reboot_poweroff, false},
		{"poweroff", run_halt_reboot_poweroff, false},
	};

	for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
		bool verb =
			COMMANDS[i].is_verb && argc > 1 && strcmp(argv[1], COMMANDS[i].name) == 0;

		if (!verb && strcmp(name, COMMANDS[i].name) != 0)
			continue;
		verb = verb && strcmp(name, COMMANDS[i].name) != 0;
		*ret_code = COMMANDS[i].run(argc - verb, argv + verb);
		return true;
	}
	return false;
}
