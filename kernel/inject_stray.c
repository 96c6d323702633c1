/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/inject.h"
#include "kernel/util.h"

#define TRY_NSEC 1000000

static pid_t tracer_of(pid_t tid)
{
	char path[32], text[4096];
	int pid;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	const char *line = strstr(text, "\nTracerPid:");
	return line && sscanf(line, "\nTracerPid: %d", &pid) == 1 ? pid : 0;
}

/* It can be detached from only where it has stopped. */
static bool has_stopped(pid_t tid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)tid, &info, WSTOPPED | WNOHANG | __WALL) == 0 &&
	       info.si_pid == tid;
}

int inject_release_stray(pid_t tid, uint64_t deadline_usec)
{
	static const struct timespec pause = {.tv_nsec = TRY_NSEC};

	if (tracer_of(tid) != getpid())
		return 0;
	(void)ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	for (;;) {
		if (ptrace(PTRACE_DETACH, tid, 0, 0) == 0)
			return 1;
		bool stopped = has_stopped(tid);
		if (clock_usec() >= deadline_usec)
			return -1;
		if (!stopped)
			(void)nanosleep(&pause, NULL);
	}
}
