/* SPDX-License-Identifier: MIT */
/* What /proc tells about a task that is to be injected into; why it cannot be, in words. */
#include "kernel/inject_target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "kernel/inject.h"
#include "kernel/proc.h"
#include "kernel/util.h"

/* The number behind "NAME:" in /proc/TID/status, or `otherwise`. */
static long status_field(const char *status, const char *name, long otherwise)
{
	const char *line = strstr(status, name);

	return line ? strtol(line + strlen(name), NULL, 10) : otherwise;
}

static int read_status(pid_t tid, char *buf, size_t size)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/status", tid);
	ssize_t n = file_read(AT_FDCWD, path, buf, size);
	if (n >= 0)
		return 0;
	/* -EPERM would say that it must not be traced. */
	return proc_is_gone((int)n) ? -ESRCH : -EIO;
}

static long yama_scope(void)
{
	char text[16];

	if (file_read(AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text)) < 0)
		return 0;
	return strtol(text, NULL, 10);
}

static int explain_tracer(pid_t tid, pid_t tracer, struct error *e)
{
	struct proc_stat stat;

	if (proc_stat_read(tracer, &stat) < 0)
		return error_say(e, EPERM, "task %d is already traced by process %d", tid, tracer);
	return error_say(
		e, EPERM, "task %d is already traced by process %d (%s)", tid, tracer, stat.comm);
}

/* 0 where nothing in sight forbids it. */
static int find_obstacle(pid_t tid, struct error *e)
{
	char status[8192];
	int r = read_status(tid, status, sizeof(status));

	if (r == -ESRCH)
		return error_say(e, ESRCH, "task %d is gone", tid);
	if (r < 0)
		return error_set(e, r, "cannot read the status of task %d", tid);
	if (strstr(status, "\nState:\tZ") || strstr(status, "\nState:\tX"))
		return error_say(e, ESRCH, "task %d has ended and waits to be reaped", tid);
	pid_t tracer = (pid_t)status_field(status, "\nTracerPid:", 0);
	if (tracer)
		return explain_tracer(tid, tracer, e);
	if (yama_scope() == 3)
		return error_say(e, EPERM,
			"cannot trace task %d: Yama forbids it until the next boot "
			"(kernel.yama.ptrace_scope=3)",
			tid);
	if (!strstr(status, "\nVmSize:"))
		return error_say(e, EPERM, "task %d is a kernel thread", tid);
	return 0;
}

int inject_explain_refusal(pid_t tid, int code, struct error *e)
{
	int r = find_obstacle(tid, e);

	if (r < 0)
		return r;
	if (inject_filtered(tid))
		return error_set(e, code,
			"cannot seize task %d (it has a seccomp filter, which only a tracer "
			"without one and with CAP_SYS_ADMIN may suspend)",
			tid);
	return error_set(e, code, "cannot seize task %d", tid);
}

bool inject_filtered(pid_t tid)
{
	char status[8192];

	return read_status(tid, status, sizeof(status)) < 0 ||
	       status_field(status, "\nSeccomp:", 1) != 0;
}

pid_t inject_thread_group(pid_t tid)
{
	char status[8192];

	return read_status(tid, status, sizeof(status)) < 0
		       ? 0
		       : (pid_t)status_field(status, "\nTgid:", 0);
}

pid_t inject_tracer(pid_t tid)
{
	char status[8192];

	return read_status(tid, status, sizeof(status)) < 0
		       ? 0
		       : (pid_t)status_field(status, "\nTracerPid:", 0);
}

bool inject_waits_for_vfork(pid_t tid)
{
	char path[64], text[256];

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	/*
	 * The number of the call it sleeps in; "running", or -1 in user space. clone sleeps for
	 * vfork only.
	 */
	char *end;
	struct proc_stat stat;
	long number = strtol(text, &end, 10);
	if (end == text)
		return false;
	/* A plain fork that the freezer has interrupted has the number too, but stands still where
	 * it can be seized. */
	if (proc_stat_read(tid, &stat) < 0 || stat.state != 'D')
		return false;
#ifdef SYS_vfork
	if (number == SYS_vfork)
		return true;
#endif
	return number == SYS_clone || number == SYS_clone3;
}

int inject_check(pid_t tid, struct error *e)
{
	uint64_t address;
	int r = find_obstacle(tid, e);

	if (r < 0)
		return r;
	return inject_find_instruction(tid, &address, e);
}
