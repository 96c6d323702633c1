/* SPDX-License-Identifier: MIT */
#include "kernel/trace.h"

#include <errno.h>
#include <sys/ptrace.h>
#include <time.h>

#include "kernel/util.h"

int trace_request(int request, pid_t tid, uintptr_t address, uintptr_t data)
{
	long r = ptrace((enum __ptrace_request)request, tid, (void *)address, (void *)data);

	return r < 0 ? -errno : (int)r;
}

void trace_sleep(uint64_t usec)
{
	sigset_t set;
	struct timespec timeout = {
		.tv_sec = (time_t)(usec / USEC_PER_SEC),
		.tv_nsec = (long)(usec % USEC_PER_SEC * 1000),
	};

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigtimedwait(&set, NULL, &timeout);
}
