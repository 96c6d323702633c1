/* SPDX-License-Identifier: MIT */
#include "services/session.h"

#include <unistd.h>

#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "kernel/utmp.h"

void session_note_end(const char *line)
{
	int pidfd;
	pid_t pid = process_fork(-1, &pidfd);

	if (pid == 0) {
		utmp_note_dead(line);
		_exit(0);
	}
	if (pid < 0)
		log_warning("cannot note the end of the session on %s", line);
	else
		(void)fd_close(pidfd);
}
