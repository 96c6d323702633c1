/* SPDX-License-Identifier: MIT */
#include "init/rescue.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/keep.h"
#include "init/shell.h"
#include "init/system.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"

#define SULOGIN "/sbin/sulogin"

static struct process shell;
static void (*ended_hook)(void);

static void __attribute__((noreturn)) run_shell(const char *why)
{
	char text[1024];
	bool login = sys.conf->rescue_login == RESCUE_LOGIN_YES ||
		     (sys.conf->rescue_login == RESCUE_LOGIN_AUTO && sys.real);

	(void)snprintf(
		text, sizeof(text), "%s\r\nA root shell: `exit` goes on with the boot.", why);
	if (login && access(SULOGIN, X_OK) == 0)
		shell_run_login(sys.conf->console, SULOGIN, sys.conf->rescue_shell, text);
	shell_run(sys.conf->console, sys.conf->rescue_shell, text);
}

static void shell_exited(struct process *p, const struct process_exit *ended)
{
	char text[64];

	(void)p;
	process_exit_describe(ended, text, sizeof(text));
	log_notice("the rescue shell %s", text);
	ended_hook();
}

void rescue_shell(const char *why, const char *what, void (*ended)(void))
{
	int pidfd;
	CLEANUP_FD int cgroup = cgroup_make(sys.tree, "rescue");

	log_warning("%s: a root shell on %s", why, sys.conf->console);
	ended_hook = ended;
	shell.exited = shell_exited;
	pid_t pid = process_fork(cgroup, &pidfd);
	if (pid == 0)
		run_shell(why);
	if (pid > 0)
		keep_note_child(what, pid);
	if (pid < 0 || process_watch(&shell, pid, pidfd) < 0) {
		log_error("cannot start the rescue shell %s", sys.conf->rescue_shell);
		ended();
	}
}

bool rescue_adopt(pid_t pid, void (*ended)(void))
{
	ended_hook = ended;
	shell.exited = shell_exited;
	return pid > 0 && process_adopt(&shell, pid, -1, true) == 0;
}

pid_t rescue_pid(void)
{
	return shell.pid;
}
