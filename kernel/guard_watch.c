/* SPDX-License-Identifier: MIT */
#include "kernel/guard_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/inject_arch.h"
#include "kernel/inject_target.h"
#include "kernel/trace.h"
#include "kernel/util.h"

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

#define SEIZE_USEC (1 * USEC_PER_SEC)

static int trace(const struct guard_watch *w, int request, uintptr_t address, uintptr_t data)
{
	return trace_request(request, w->tracee, address, data);
}

static void __attribute__((noreturn, format(printf, 2, 3)))
decline(const struct guard_watch *w, const char *format, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	(void)send(w->ours, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	_exit(1);
}

static void say_ready(const struct guard_watch *w)
{
	(void)!send(w->ours, (char[]){GUARD_READY}, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Waiting for its stops */

/* Of one that runs free: what it says comes without a stop. */
static void sleep_until_news(const struct guard_watch *w, uint64_t usec)
{
	struct pollfd p[] = {
		{.fd = w->children, .events = POLLIN}, {.fd = w->ours, .events = POLLIN}};
	struct signalfd_siginfo info;

	(void)poll(p, ARRAY_SIZE(p), (int)(usec / USEC_PER_MSEC) + 1);
	(void)!read(w->children, &info, sizeof(info));
}

static void interrupt(struct guard_watch *w)
{
	(void)trace(w, PTRACE_INTERRUPT, 0, 0);
	w->asked = true;
}

/* Where it ends it stops at once: _exit(2), which all of libc ends by, is at that address. Where
 * the processor cannot do that each call goes on being watched. */
static void let_run_free(struct guard_watch *w, const char *address)
{
	uint64_t at;

	if (parse_u64(address, &at) && at != 0)
		w->runs_free = inject_arch_break_at(w->tracee, at) == 0;
}

static void let_go(const struct guard_watch *w, int signal)
{
	if (w->runs_free)
		(void)inject_arch_break_at(w->tracee, 0);
	(void)trace(w, PTRACE_DETACH, 0, (uintptr_t)signal);
	say_ready(w);
}

static enum guard_next hear(struct guard_watch *w)
{
	char text[sizeof(w->why) + 1];
	ssize_t n = recv(w->ours, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n < 0)
		return GUARD_GO_ON;
	text[n] = '\0';
	/* Nothing: the end of what it says, where it could not say that (guard.c). */
	if (n == 0 || text[0] == GUARD_UP)
		return GUARD_LET_GO;
	if (text[0] == GUARD_LOADED) {
		let_run_free(w, text + 1);
		return GUARD_GO_ON;
	}
	(void)snprintf(w->why, sizeof(w->why), "%s", text + 1);
	return GUARD_FALL_BACK;
}

int guard_collect(const struct guard_watch *w)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t)w->tracee, &info, WSTOPPED | WEXITED | WNOHANG | __WALL) < 0)
		return -errno;
	if (info.si_pid == 0)
		return 0;
	return info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED ? info.si_status : -ESRCH;
}

/*
 * To the next stop. Past the deadline it is asked to stop; one that sleeps without being
 * interruptible does so when it wakes.
 */
static int wait_stop(struct guard_watch *w)
{
	int status;

	while ((status = guard_collect(w)) == 0) {
		uint64_t now = clock_usec();
		uint64_t left = TRACE_LOOK_AGAIN_USEC;
		if (w->runs_free && w->said == GUARD_GO_ON)
			w->said = hear(w);
		if (w->loaded && !w->asked) {
			if (now >= w->deadline_usec || w->said != GUARD_GO_ON)
				interrupt(w);
			else if (w->deadline_usec - now < left)
				left = w->deadline_usec - now;
		}
		if (w->runs_free)
			sleep_until_news(w, left);
		else
			trace_sleep(left);
	}
	return status;
}

/* Whether it has failed */

bool guard_signal_is_the_end(struct guard_watch *w, int signal, int code, pid_t sender)
{
	bool from_kernel = code > 0;
	const char *name = sigabbrev_np(signal);

	switch (signal) {
	case SIGSEGV:
	case SIGBUS:
	case SIGILL:
	case SIGFPE:
	case SIGTRAP:
	case SIGSYS:
		if (!from_kernel)
			return false;
		break;
	case SIGABRT:
		if (code != SI_TKILL || sender != w->tracee)
			return false;
		break;
	default:
		return false;
	}
	(void)snprintf(w->why, sizeof(w->why), "was killed by SIG%s while it took over", name);
	return true;
}

/* linux/reboot.h: all but these two end the system, or hand it to another kernel. */
static bool ends_the_system(uint64_t command)
{
	return (uint32_t)command != 0x89abcdefU && (uint32_t)command != 0; /* CAD on and off */
}

bool guard_call_is_the_end(struct guard_watch *w, long number, const uint64_t args[6])
{
	if (number == SYS_exit || number == SYS_exit_group)
		(void)snprintf(w->why, sizeof(w->why), "exited with code %d while it took over",
			(int)(args[0] & 0xff));
	else if (number == SYS_reboot && ends_the_system(args[2]))
		(void)snprintf(
			w->why, sizeof(w->why), "wanted to reboot the system while it took over");
	else
		return false;
	return true;
}

static bool is_late(struct guard_watch *w)
{
	if (!w->loaded || clock_usec() < w->deadline_usec)
		return false;
	(void)snprintf(w->why, sizeof(w->why), "did not take over within %llu ms",
		(unsigned long long)(w->timeout_usec / USEC_PER_MSEC));
	return true;
}

/* Looking at a stop */

static bool waits_for_events(long number)
{
#ifdef SYS_epoll_wait
	if (number == SYS_epoll_wait)
		return true;
#endif
#ifdef SYS_epoll_pwait2
	if (number == SYS_epoll_pwait2)
		return true;
#endif
	return number == SYS_epoll_pwait;
}

static bool sends(long number)
{
	return number == SYS_sendto || number == SYS_sendmsg || number == SYS_write ||
	       number == SYS_shutdown;
}

static enum guard_next entered(struct guard_watch *w, const struct __ptrace_syscall_info *info)
{
	uint64_t args[6];

	for (size_t i = 0; i < ARRAY_SIZE(args); i++)
		args[i] = info->entry.args[i];
	w->entering = true;
	w->exec_failed = false;
	w->number = info->arch == NATIVE ? (long)info->entry.nr : -1;
	if (!w->loaded)
		return GUARD_GO_ON;
	if (waits_for_events(w->number))
		return GUARD_LET_GO;
	return guard_call_is_the_end(w, w->number, args) ? GUARD_FALL_BACK : GUARD_GO_ON;
}

static enum guard_next left_call(struct guard_watch *w, const struct __ptrace_syscall_info *info)
{
	long number = w->number;

	w->number = -1;
	if (number == SYS_execve || number == SYS_execveat) {
		/* Its caller goes on as it was, and cancels us; or there is no caller any more:
		 * is_torn(). */
		if (info->exit.rval < 0) {
			w->exec_failed = true;
			return GUARD_GO_ON;
		}
		if (!w->loaded)
			w->deadline_usec = deadline_in(w->timeout_usec);
		w->loaded = true;
	}
	return w->loaded && sends(number) ? hear(w) : GUARD_GO_ON;
}

static enum guard_next stopped_at_call(struct guard_watch *w)
{
	struct __ptrace_syscall_info info = {0};

	if (trace(w, PTRACE_GET_SYSCALL_INFO, sizeof(info), (uintptr_t)&info) <= 0)
		return GUARD_GO_ON;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		return entered(w, &info);
	if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		return left_call(w, &info);
	return GUARD_GO_ON;
}

/* At the first instruction of _exit(2), which has not called the kernel yet. */
static void stopped_before_exit(struct guard_watch *w)
{
	struct inject_registers regs;
	int code = inject_arch_read(w->tracee, &regs) == 0
			   ? (int)(inject_arch_argument(&regs, 0) & 0xff)
			   : 0;

	(void)snprintf(w->why, sizeof(w->why), "exited with code %d while it took over", code);
}

/*
 * An exec has failed when the program before was gone already: the kernel kills for that
 * (bprm_execve() in fs/exec.c). Who is traced and cannot be killed would go on from there, through
 * what is not mapped, for ever.
 */
static bool is_torn(struct guard_watch *w, int signal, const siginfo_t *info)
{
	if (!w->exec_failed || signal != SIGSEGV || info->si_code != SI_KERNEL)
		return false;
	(void)snprintf(w->why, sizeof(w->why), "was killed by SIGSEGV while it was loaded");
	return true;
}

static enum guard_next stopped_by_signal(struct guard_watch *w, int *signal)
{
	siginfo_t info = {0};

	(void)trace(w, PTRACE_GETSIGINFO, 0, (uintptr_t)&info);
	/*
	 * An init does not get it; while it is traced it would (sig_ignored() in kernel/signal.c).
	 * All other signals without a handler are dropped by the kernel again.
	 */
	if (*signal == SIGSTOP)
		*signal = 0;
	if (w->runs_free && *signal == SIGTRAP && info.si_code == TRAP_HWBKPT) {
		stopped_before_exit(w);
		return GUARD_FALL_BACK;
	}
	if (is_torn(w, *signal, &info))
		return GUARD_FALL_BACK;
	if (!w->loaded || !guard_signal_is_the_end(w, *signal, info.si_code, info.si_pid))
		return GUARD_GO_ON;
	return GUARD_FALL_BACK;
}

/*
 * It ends, and nothing could be done before: one that runs free and does without libc, or that the
 * kernel itself puts an end to. Too late to make it anything else, but not to keep it from being
 * gone. Nobody but another PID namespace, or a memory killer there, can kill it.
 */
static enum guard_next stopped_at_exit(struct guard_watch *w)
{
	unsigned long status = 0;

	(void)trace(w, PTRACE_GETEVENTMSG, 0, (uintptr_t)&status);
	if ((status & 0x7f) == SIGKILL)
		return GUARD_GONE;
	if (status & 0x7f)
		(void)snprintf(w->why, sizeof(w->why), "was killed by SIG%s while it was loaded",
			sigabbrev_np((int)(status & 0x7f)));
	else
		(void)snprintf(w->why, sizeof(w->why), "exited with code %lu while it took over",
			status >> 8 & 0xff);
	guard_hold(w, "it is too late for that");
}

static enum guard_next look(struct guard_watch *w, int status, int *ret_signal)
{
	enum guard_next next = GUARD_GO_ON;

	w->asked = false; /* a stop of any kind uses it up (ptrace_stop() in kernel/signal.c) */
	*ret_signal = 0;
	w->entering = false;
	if (status == TRACE_SYSCALL_STOP) {
		next = stopped_at_call(w);
	} else if (status >> 8 == PTRACE_EVENT_EXIT) {
		next = stopped_at_exit(w);
	} else if (status >> 8 != PTRACE_EVENT_STOP) {
		*ret_signal = status & 0x7f;
		next = stopped_by_signal(w, ret_signal);
	}
	if (next == GUARD_GO_ON && w->said != GUARD_GO_ON)
		return w->said;
	return next == GUARD_GO_ON && is_late(w) ? GUARD_FALL_BACK : next;
}

/* Its beginning */

static int seize(struct guard_watch *w)
{
	uint64_t deadline = deadline_in(SEIZE_USEC);
	int status = 0;
	int r = trace(w, PTRACE_SEIZE, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXIT);

	if (r == 0)
		r = trace(w, PTRACE_INTERRUPT, 0, 0);
	while (r == 0 && (status = guard_collect(w)) == 0) {
		if (clock_usec() > deadline)
			return -ETIMEDOUT;
		trace_sleep(TRACE_LOOK_AGAIN_USEC);
	}
	if (r == 0)
		r = status < 0 ? status
			       : trace(w, PTRACE_GETSIGMASK, sizeof(w->mask), (uintptr_t)&w->mask);
	return r < 0 ? r : 0;
}

/* Nothing that is sent around is for us, and we are the last that should go. */
static void settle(struct guard_watch *w)
{
	sigset_t all, children;

	w->number = -1;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)sigemptyset(&children);
	(void)sigaddset(&children, SIGCHLD);
	w->children = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (w->children < 0)
		decline(w, "cannot make a signalfd: %s", strerror(errno));
	(void)prctl(PR_SET_NAME, "molt-guard");
	/* Both want privileges that there may not be, and it works without. */
	(void)file_write(AT_FDCWD, "/proc/self/oom_score_adj", "-1000");
	(void)mlockall(MCL_CURRENT);
}

void guard_watch(struct guard_watch *w)
{
	struct error e;
	int signal = 0;

	settle(w);
	int r = seize(w);
	if (r < 0) {
		(void)inject_explain_refusal(w->tracee, r, &e);
		decline(w, "%s", e.text);
	}
	r = trace(w, PTRACE_SYSCALL, 0, 0);
	if (r < 0)
		decline(w, "cannot resume task %d: %s", (int)w->tracee, strerror(-r));
	say_ready(w);
	for (;;) {
		int status = wait_stop(w);
		enum guard_next next = status < 0 ? GUARD_GONE : look(w, status, &signal);
		if (next == GUARD_GONE)
			_exit(0);
		if (next == GUARD_LET_GO) {
			let_go(w, signal);
			_exit(0);
		}
		if (next == GUARD_FALL_BACK) {
			guard_replace(w);
			signal = 0;
		}
		(void)trace(w, w->runs_free ? PTRACE_CONT : PTRACE_SYSCALL, 0, (uintptr_t)signal);
	}
}
