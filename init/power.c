/* SPDX-License-Identifier: MIT */
#include "init/power.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "init/schedule.h"
#include "init/system.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"

/* Time for the power to come back. */
#define FAIL_USEC (120 * USEC_PER_SEC)

#define BY "powerfail"

/* 0: nobody says. */
static char read_status(void)
{
	static const char *const PATHS[] = {"/run/powerstatus", "/etc/powerstatus"};
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(PATHS); i++) {
		if (file_read(AT_FDCWD, PATHS[i], text, sizeof(text)) <= 0)
			continue;
		/* It is about this time, and not the next. */
		(void)unlink(PATHS[i]);
		return text[0];
	}
	return '\0';
}

static void __attribute__((noreturn)) run(const char *program, const char *word)
{
	char *const argv[] = {(char *)program, (char *)word, NULL};
	char *const env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};

	(void)close_range(3, ~0U, 0);
	(void)execve(program, argv, env);
	_exit(127);
}

static void run_command(const char *word)
{
	const char *program = sys.conf->power_fail_command;
	CLEANUP_FD int cgroup = cgroup_make(sys.tree, "powerfail");
	CLEANUP_FD int pidfd = -1;

	if (cgroup < 0) {
		log_error("cannot run %s: %s", program, strerror(-cgroup));
		return;
	}
	pid_t pid = process_fork(cgroup, &pidfd);
	if (pid == 0)
		run(program, word);
	if (pid < 0)
		log_error("cannot run %s: %s", program, strerror(-(int)pid));
	else
		log_notice("the power: \"%s\", told to %s", word, program);
}

static void go_down(uint64_t in_usec, const char *message)
{
	struct schedule_request q = {
		.kind = SHUTDOWN_POWEROFF, .when = {.usec = in_usec}, .by = BY, .message = message};
	struct error e;

	if (schedule_set(&q, &e) < 0)
		log_warning("%s", e.text);
}

/* What a person has scheduled is left alone. */
static void cancel(void)
{
	if (schedule_is_by(BY))
		(void)schedule_cancel(BY, "The power is back.", false);
}

void power_changed(void)
{
	char status = read_status();
	const char *word = status == 'L' ? "low" : status == 'O' ? "ok" : "fail";

	/* What container managers send to have a container end. */
	if (!status && !sys.real) {
		go_down(0, NULL);
		return;
	}
	if (sys.conf->power_fail_command) {
		run_command(word);
		return;
	}
	log_warning("SIGPWR: the power: \"%s\"", word);
	if (status == 'L')
		go_down(0, "The power fails, and the battery is low.");
	else if (status != 'O')
		go_down(FAIL_USEC, "The power fails.");
	else
		cancel();
}
