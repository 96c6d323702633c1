/* SPDX-License-Identifier: MIT */
#include "init/records.h"

#include <unistd.h>

#include "init/system.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "kernel/utmp.h"

/* As systemd counts them: a machine that serves, without regard to screens. */
#define LEVEL_RUNNING '3'
#define LEVEL_SINGLE '1'

static bool is_wanted(void)
{
	return sys.real || access(UTMP_FILE, F_OK) == 0;
}

int records_note_boot(void)
{
	if (!is_wanted())
		return 0;
	utmp_make();
	utmp_note_boot();
	return 0;
}

static void note_running(void)
{
	utmp_note_run_level(LEVEL_RUNNING);
}

static void note_single(void)
{
	utmp_note_run_level(LEVEL_SINGLE);
}

static void by_child(void (*note)(void))
{
	int pidfd;

	if (!is_wanted())
		return;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		note();
		_exit(0);
	}
	if (pid < 0)
		log_warning("cannot fork to note it in wtmp");
	else
		(void)fd_close(pidfd);
}

void records_note_running(void)
{
	by_child(note_running);
}

void records_note_single(void)
{
	by_child(note_single);
}

void records_note_shutdown(void)
{
	by_child(utmp_note_shutdown);
}
