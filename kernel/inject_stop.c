/* SPDX-License-Identifier: MIT */
/* Waiting for a target to stop, and why one does not. */
#include "kernel/inject.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "kernel/inject_target.h"
#include "kernel/proc.h"
#include "kernel/trace.h"
#include "kernel/util.h"

/*
 * Whether it has ended, or is no longer ours to wait for. Its status is left to the caller's
 * reaper. The stops of a traced task are reported although WSTOPPED was not asked for
 * (wait_task_stopped() in kernel/exit.c).
 */
static bool has_ended(pid_t tid)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t)tid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
		return errno == ECHILD;
	return info.si_pid == tid && (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED ||
					     info.si_code == CLD_DUMPED);
}

static void note_stop(struct inject_target *t, int status)
{
	t->asked = false;
	t->signal = 0;
	if (status >> 8 == PTRACE_EVENT_STOP) {
		t->stop = INJECT_STOP_EVENT;
	} else if (status == TRACE_SYSCALL_STOP) {
		t->stop = INJECT_STOP_SYSCALL;
	} else {
		t->stop = INJECT_STOP_SIGNAL;
		t->signal = status & 0x7f;
	}
}

static bool collect_stop(struct inject_target *t)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t)t->tid, &info, WSTOPPED | WNOHANG | __WALL) < 0 ||
		info.si_pid != t->tid)
		return false;
	note_stop(t, info.si_status);
	return true;
}

/*
 * A stop that somebody else has collected: a reaper that waits for any child takes the stops of
 * traced tasks as well. Only a task that stands still can be asked for its siginfo, which tells the
 * kind of stop.
 */
static bool recover_stop(struct inject_target *t)
{
	siginfo_t info;

	if (trace_request(PTRACE_GETSIGINFO, t->tid, 0, (uintptr_t)&info) < 0)
		return false;
	bool of_ptrace =
		info.si_code == TRACE_SYSCALL_STOP || info.si_code >> 8 == PTRACE_EVENT_STOP;
	note_stop(t, of_ptrace ? info.si_code : info.si_signo);
	return true;
}

static bool is_zombie(pid_t tid)
{
	struct proc_stat stat;
	int r = proc_stat_read(tid, &stat);

	return r < 0 ? proc_is_gone(r) : stat.state == 'Z' || stat.state == 'X';
}

/* A dead first thread is not reported to us while others live; with one of those it may come back,
 * by execve(2). */
static bool all_ended(pid_t tid)
{
	struct pid_array threads = {0};
	bool ended = is_zombie(tid);

	if (ended && proc_threads(tid, &threads) == 0)
		for (size_t i = 0; ended && i < threads.count; i++)
			ended = is_zombie(threads.pids[i]);
	pid_array_free(&threads);
	return ended;
}

int inject_refuse_vfork(pid_t tid, struct error *e)
{
	char comm[32];

	proc_comm(tid, comm, sizeof(comm));
	return error_say(e, EBUSY, "task %d (%s) waits in vfork(2) for its child to exec or exit",
		tid, comm);
}

/* Whether it is known why it will not stop for now: 0, -ESRCH, -EBUSY. */
static int find_excuse(pid_t tid, struct error *e)
{
	if (all_ended(tid))
		return error_say(e, ESRCH, "task %d has ended", tid);
	/* It was on its way into that sleep when we looked before. */
	if (inject_waits_for_vfork(tid))
		return inject_refuse_vfork(tid, e);
	return 0;
}

static int explain_silence(pid_t tid, struct error *e)
{
	char comm[64], where[128];

	if (is_zombie(tid))
		return error_say(e, ESRCH, "task %d has ended", tid);
	proc_comm(tid, comm, sizeof(comm));
	proc_where(tid, where, sizeof(where));
	return error_say(e, ETIMEDOUT, "task %d (%s) does not answer: it is %s", tid, comm, where);
}

int inject_await_stop(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	for (bool waited = false; !collect_stop(t); waited = true) {
		uint64_t now = clock_usec();
		int r = waited ? find_excuse(t->tid, e) : 0;

		if (has_ended(t->tid))
			return error_say(e, ESRCH, "task %d has ended", t->tid);
		if (r == 0 && now >= deadline_usec)
			r = explain_silence(t->tid, e);
		if (r < 0)
			return recover_stop(t) ? 0 : r;
		uint64_t left = deadline_usec - now;
		trace_sleep(left < TRACE_LOOK_AGAIN_USEC ? left : TRACE_LOOK_AGAIN_USEC);
	}
	return 0;
}

int inject_resume(struct inject_target *t, int request, struct error *e)
{
	int r = trace_request(request, t->tid, 0, (uintptr_t)t->signal);

	if (r < 0)
		return error_set(e, r, "cannot resume task %d", t->tid);
	t->stop = INJECT_STOP_NONE;
	t->signal = 0;
	return 0;
}

int inject_interrupt(struct inject_target *t, struct error *e)
{
	int r = trace_request(PTRACE_INTERRUPT, t->tid, 0, 0);

	if (r < 0)
		return error_set(e, r, "cannot interrupt task %d", t->tid);
	t->asked = true;
	return 0;
}
