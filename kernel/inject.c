/* SPDX-License-Identifier: MIT */
#include "kernel/inject.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>

#include "kernel/inject_target.h"
#include "kernel/trace.h"
#include "kernel/util.h"

/* PTRACE_{GET,SET}_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4: older headers lack them. */
#define GET_DISPATCH 0x4211
#define SET_DISPATCH 0x4210

#define ALL_SIGNALS UINT64_MAX

/* Half a release helps nobody: it always gets this long. */
#define RELEASE_USEC (20 * USEC_PER_MSEC)

/* Late, after its deadline: a call of ours that must not run any more. */
static int cancel(struct inject_target *t, struct error *e)
{
	int r = inject_arch_cancel(t->tid);

	return r < 0 ? error_set(e, r, "cannot cancel a call in task %d", t->tid) : 0;
}

/*
 * To the one kind of stop from which the kernel, on the way out, still decides about restarting an
 * interrupted call (get_signal() in kernel/signal.c). Any other stop that comes first has used up
 * the INTERRUPT, so it is asked again. A signal that was on its way is let through: its handler's
 * frame is built, and the task stops at the handler's first instruction, with nothing lost.
 */
static int go_to_event_stop(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	while (t->stop != INJECT_STOP_EVENT) {
		int r = 0;

		if (!t->asked)
			r = inject_interrupt(t, e);
		if (r == 0 && t->stop == INJECT_STOP_SYSCALL && t->astray)
			r = cancel(t, e);
		if (r == 0 && t->stop != INJECT_STOP_NONE)
			r = inject_resume(t, PTRACE_CONT, e);
		if (r == 0)
			r = inject_await_stop(t, deadline_usec, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* With SIGCHLD ignored or SA_NOCLDSTOP nobody tells us of a stop: every wait would be long. */
static int check_sigchld(struct error *e)
{
	sigset_t blocked;
	struct sigaction action;

	if (sigprocmask(SIG_SETMASK, NULL, &blocked) < 0 || sigaction(SIGCHLD, NULL, &action) < 0)
		return error_set(e, errno, "cannot inspect SIGCHLD");
	if (!sigismember(&blocked, SIGCHLD))
		return error_say(e, EINVAL, "SIGCHLD must be blocked during injection");
	if (action.sa_handler == SIG_IGN || action.sa_flags & SA_NOCLDSTOP)
		return error_say(
			e, EINVAL, "SIGCHLD must tell of stopped children during injection");
	return 0;
}

/*
 * The filter of a task is suspended without looking whether it has one, which would cost a read of
 * its status. Where the kernel or our own lack of CAP_SYS_ADMIN forbids that, a task without one
 * can still be seized.
 */
static int attach(pid_t tid, struct error *e)
{
	int r = trace_request(
		PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP);

	if ((r == -EPERM || r == -EINVAL) && !inject_filtered(tid))
		r = trace_request(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD);
	return r < 0 ? inject_explain_refusal(tid, r, e) : 0;
}

int inject_seize(struct inject_target **ret, pid_t tid, struct error *e)
{
	int r = check_sigchld(e);

	if (r < 0)
		return r;
	if (inject_waits_for_vfork(tid))
		return inject_refuse_vfork(tid, e);

	struct inject_target *t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(e, ENOMEM, "cannot seize task %d", tid);
	t->tid = tid;
	r = attach(tid, e);
	if (r == 0)
		r = inject_interrupt(t, e);
	if (r < 0) {
		free(t);
		return r;
	}
	*ret = t;
	return 0;
}

/*
 * Syscall user dispatch, prctl(2) PR_SET_SYSCALL_USER_DISPATCH, would turn our calls into SIGSYS.
 * Linux 6.4 lets a tracer switch it off; before, it cannot even be seen, and the SIGSYS is reported
 * as the failure of the call.
 */
static int suspend_dispatch(struct inject_target *t)
{
	struct inject_dispatch off = {0};
	int r = trace_request(GET_DISPATCH, t->tid, sizeof(t->dispatch), (uintptr_t)&t->dispatch);

	/* EIO: before 6.4. EINVAL: a processor for which the kernel has no dispatch. */
	if (r == -EIO || r == -EINVAL || (r == 0 && t->dispatch.mode == 0))
		return 0;
	if (r == 0)
		r = trace_request(SET_DISPATCH, t->tid, sizeof(off), (uintptr_t)&off);
	return r;
}

/*
 * In a call with a mask of its own (sigsuspend, ppoll) PTRACE_GETSIGMASK gives the mask to come
 * back to, and PTRACE_SETSIGMASK forgets the other one (kernel/ptrace.c). Both are right for us:
 * the restarted call sets its own mask again, and a signal that came meanwhile is pending then and
 * ends it, as it would have.
 */
static int block_signals(struct inject_target *t)
{
	uint64_t all = ALL_SIGNALS;
	int r = trace_request(PTRACE_GETSIGMASK, t->tid, sizeof(t->mask), (uintptr_t)&t->mask);

	return r < 0 ? r : trace_request(PTRACE_SETSIGMASK, t->tid, sizeof(all), (uintptr_t)&all);
}

static int borrow(struct inject_target *t, struct error *e)
{
	int r = inject_arch_read(t->tid, &t->saved);

	if (r == -ENOTSUP)
		return error_say(
			e, r, "task %d runs in 32-bit mode: its system calls are not ours", t->tid);
	if (r == 0)
		r = inject_leave_rseq(t->tid, &t->saved);
	if (r == 0)
		r = suspend_dispatch(t);
	if (r == 0)
		r = inject_arch_save_vectors(t->tid, &t->vectors);
	if (r == 0)
		r = block_signals(t);
	if (r < 0)
		return error_set(e, r, "cannot save the state of task %d", t->tid);
	inject_spare_eintr(&t->saved);
	t->borrowed = true;
	return 0;
}

int inject_wait_stopped(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	int r = go_to_event_stop(t, deadline_usec, e);

	if (r == 0)
		r = inject_find_instruction(t->tid, &t->instruction, e);
	return r < 0 ? r : borrow(t, e);
}

static bool is_fault(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE ||
	       signal == SIGTRAP || signal == SIGSYS;
}

/*
 * Other stops on the way are news of job control (an EVENT_STOP for SIGCONT or another thread's
 * stop) or SIGSTOP itself, which no mask holds back: it takes effect, for the process and its
 * parent, while we go on; after the release the task is stopped for good.
 */
int inject_to_syscall_stop(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	do {
		int r = inject_resume(t, PTRACE_SYSCALL, e);
		if (r == 0)
			r = inject_await_stop(t, deadline_usec, e);
		if (r < 0)
			return r;
		if (t->stop == INJECT_STOP_SIGNAL && is_fault(t->signal)) {
			int signal = t->signal;

			t->signal = 0;
			t->unable = true;
			return error_say(e, EFAULT,
				"task %d got signal %d instead of running a system call", t->tid,
				signal);
		}
	} while (t->stop != INJECT_STOP_SYSCALL);
	return 0;
}

/* -ERESTARTSYS and its kin, 512 to 516, are the kernel's own; for who calls, it was interrupted. */
static int64_t public_errno(int64_t result)
{
	return result <= -512 && result >= -516 ? -EINTR : result;
}

static int run_syscall(struct inject_target *t, struct inject_registers *regs,
	uint64_t deadline_usec, struct error *e)
{
	int r = inject_arch_write(t->tid, regs);

	if (r < 0)
		return error_set(e, r, "cannot set the registers of task %d", t->tid);
	r = inject_to_syscall_stop(t, deadline_usec, e); /* its entry */
	if (r == 0)
		r = inject_to_syscall_stop(t, deadline_usec, e); /* its exit */
	if (r < 0)
		return r;
	r = inject_arch_read(t->tid, regs);
	return r < 0 ? error_set(e, r, "cannot read the registers of task %d", t->tid) : 0;
}

int inject_syscall(struct inject_target *t, long number, const uint64_t args[6],
	int64_t *ret_result, uint64_t deadline_usec, struct error *e)
{
	struct inject_registers regs;

	if (!t->borrowed || t->astray)
		return error_say(e, EINVAL, "task %d is not ready to run a system call", t->tid);
	int r = inject_leave_own_call(t, deadline_usec, e);
	if (r == 0) {
		regs = t->saved;
		inject_arch_call(&regs, t->instruction, number, args);
		r = run_syscall(t, &regs, deadline_usec, e);
	}
	if (r < 0) {
		t->astray = true;
		return r;
	}
	*ret_result = public_errno(inject_arch_result(&regs));
	return 0;
}

/* At the entry of its own call the registers are what they have to be. */
static int give_back(struct inject_target *t, struct error *e)
{
	int r = 0;

	if (!t->borrowed)
		return 0;
	if (t->own != INJECT_OWN_ENTERED) {
		r = inject_arch_write(t->tid, &t->saved);
		if (r == 0)
			r = inject_arch_restore_vectors(t->tid, t->vectors);
	}
	if (r == 0 && t->dispatch.mode)
		r = trace_request(
			SET_DISPATCH, t->tid, sizeof(t->dispatch), (uintptr_t)&t->dispatch);
	if (r == 0)
		r = trace_request(PTRACE_SETSIGMASK, t->tid, sizeof(t->mask), (uintptr_t)&t->mask);
	return r < 0 ? error_set(e, r, "cannot restore the state of task %d", t->tid) : 0;
}

/*
 * As soon as it stands where it runs none of our calls any more. Should it take its time to the
 * event stop then (nobody gives it a processor, a page of its own does not come), it is on that way
 * as itself, and whoever traces it by then need know nothing of it. Nothing is lost: the INTERRUPT
 * that it is sent on with leads through get_signal(), which decides about the restart afterwards.
 */
static void give_back_early(struct inject_target *t)
{
	struct error ignored;

	if (t->stop != INJECT_STOP_SIGNAL && (t->stop != INJECT_STOP_SYSCALL || t->astray))
		return;
	if (t->asked || inject_interrupt(t, &ignored) == 0)
		t->borrowed = give_back(t, &ignored) < 0;
}

/*
 * To where it can be let go. If it cannot be led to the entry of its call (a frozen task runs
 * nothing), its call begins anew after the stop, which is nearly as good.
 */
static int go_back(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	uint64_t least = deadline_in(RELEASE_USEC);
	uint64_t deadline = deadline_usec > least ? deadline_usec : least;

	(void)inject_settle(t, deadline, NULL);
	if (t->own == INJECT_OWN_ENTERED && !t->astray)
		return 0;
	t->own = INJECT_OWN_NONE;
	give_back_early(t);
	least = deadline_in(RELEASE_USEC);
	return go_to_event_stop(t, deadline > least ? deadline : least, e);
}

int inject_recover(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	t->astray = true;
	t->own = INJECT_OWN_NONE;
	int r = go_to_event_stop(t, deadline_usec, e);
	if (r == 0)
		t->astray = false;
	return r;
}

int inject_release(struct inject_target *t, uint64_t deadline_usec, struct error *e)
{
	if (!t)
		return 0;
	int r = go_back(t, deadline_usec, e);
	if (r == -ETIMEDOUT || r == -EBUSY)
		return -ETIMEDOUT;
	if (r == 0)
		r = give_back(t, e);
	/* From a group-stop too: the kernel remembers it, and stops the task again. */
	int detached = trace_request(PTRACE_DETACH, t->tid, 0, 0);
	if (r == 0 && detached < 0)
		r = error_set(e, detached, "cannot detach from task %d", t->tid);
	free(t->vectors);
	free(t);
	return r;
}

bool inject_is_borrowed(const struct inject_target *t)
{
	return t->borrowed;
}

void inject_note_unable(struct inject_target *t)
{
	t->unable = true;
}

bool inject_is_unable(const struct inject_target *t)
{
	return t->unable;
}

pid_t inject_tid(const struct inject_target *t)
{
	return t->tid;
}
