/* SPDX-License-Identifier: MIT */
#include "init/minimal.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init/shell.h"
#include "init/system.h"
#include "kernel/cgroup.h"
#include "kernel/crash.h"
#include "kernel/error.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"

/* Who exits sooner, or badly, was no person who is done: a console that is not there. */
#define SHELL_USEC (1 * USEC_PER_SEC)
#define PAUSE_USEC (5 * USEC_PER_SEC)
#define KILL_USEC (2 * USEC_PER_SEC)

static const char *reason, *console = "/dev/console", *shell = "/bin/sh";
static pid_t shell_pid;
static uint64_t shell_since, shell_due;

static void __attribute__((noreturn)) run_shell(void)
{
	char text[1024];

	(void)snprintf(text, sizeof(text),
		"%s\r\n"
		"Services run on, unsupervised. A root shell: `exit` tries the whole init again.",
		reason);
	shell_run(console, shell, text);
}

static void start_shell(void)
{
	/* In the tree like everything else, where there is one. */
	CLEANUP_FD int cgroup = sys.tree >= 0 ? cgroup_make(sys.tree, "rescue") : -1;
	int pidfd = -1;
	pid_t pid = process_fork(cgroup, &pidfd);

	if (pid == 0)
		run_shell();
	(void)fd_close(pidfd);
	shell_pid = pid > 0 ? pid : 0;
	shell_since = clock_usec();
	shell_due = pid > 0 ? 0 : deadline_in(PAUSE_USEC);
}

static void try_whole_init(void)
{
	log_notice("trying the whole init again");
	crash_start_over();
	log_error("it cannot be executed: %s", strerror(errno));
}

static void shell_ended(const siginfo_t *info)
{
	bool done = info->si_code == CLD_EXITED && info->si_status == 0 &&
		    clock_usec() - shell_since >= SHELL_USEC;

	shell_pid = 0;
	shell_due = deadline_in(PAUSE_USEC);
	if (done)
		try_whole_init();
}

static void bury(void)
{
	siginfo_t info = {0};

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid > 0) {
		if (info.si_pid == shell_pid)
			shell_ended(&info);
		info.si_pid = 0;
	}
}

static void wait_usec(uint64_t usec)
{
	struct timespec ts = {(time_t)(usec / USEC_PER_SEC), (long)(usec % USEC_PER_SEC) * 1000};

	(void)nanosleep(&ts, NULL);
}

void minimal_end_processes(void)
{
	/* Nobody is asked: who could, does not know the services any more. -1 is all but us. */
	(void)kill(-1, SIGTERM);
	(void)kill(-1, SIGCONT);
	wait_usec(KILL_USEC);
	if (sys.tree >= 0)
		(void)cgroup_kill(sys.tree);
	else
		(void)kill(-1, SIGKILL);
}

static void go_down(int how)
{
	minimal_end_processes();
	sync();
	(void)reboot(how);
}

static void handle(int signal)
{
	if (signal == SIGTERM)
		try_whole_init();
	else if (signal == SIGINT || signal == SIGRTMIN + 5)
		go_down(RB_AUTOBOOT);
	else if (signal == SIGPWR || signal == SIGRTMIN + 4)
		go_down(RB_POWER_OFF);
	else if (signal == SIGRTMIN + 3)
		go_down(RB_HALT_SYSTEM);
}

static void find_tree(void)
{
	struct error e;

	/* Thaws it too. */
	if (sys.tree < 0 && system_open_tree(&e) < 0)
		log_error("%s", e.text);
	if (sys.tree >= 0)
		(void)cgroup_freeze(sys.tree, false);
}

static void block_signals(sigset_t *set)
{
	static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

	(void)sigfillset(set);
	for (size_t i = 0; i < ARRAY_SIZE(FAULTS); i++)
		(void)sigdelset(set, FAULTS[i]);
	(void)sigprocmask(SIG_SETMASK, set, NULL);
}

static void take_turn(const sigset_t *set)
{
	struct timespec ts = {1, 0};
	int signal;

	bury();
	if (!shell_pid && clock_usec() >= shell_due)
		start_shell();
	signal = sigtimedwait(set, NULL, &ts);
	if (signal > 0)
		handle(signal);
}

void minimal_run(const char *why, const char *on_console, const char *with_shell)
{
	static sigjmp_buf point;
	static sigset_t set;

	reason = why ? why : "PID 1 has crashed too often";
	console = on_console && *on_console ? on_console : console;
	shell = with_shell && *with_shell ? with_shell : shell;
	/* Here again after each crash in here. */
	while (sigsetjmp(point, 1))
		wait_usec(USEC_PER_SEC);
	(void)crash_recover_at(&point);
	block_signals(&set);
	find_tree();
	log_error("%s: nothing is done but to reap, with a root shell on %s", reason, console);
	for (;;)
		take_turn(&set);
}
