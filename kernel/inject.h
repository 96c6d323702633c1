/* SPDX-License-Identifier: MIT */
/*
 * Running syscalls in another process: ptrace SEIZE + INTERRUPT, the instruction that enters the
 * kernel in the target's own vDSO; nothing of its text is written, nothing of libc is involved.
 *
 * Life of a target: seize (works while its cgroup is frozen), then, once its cgroup is thawed, any
 * number of syscalls, then release. Between seize and release the task does not run a single
 * instruction of its own, and no handler of its signals. A task that slept in a syscall goes on
 * sleeping afterwards: the registers are put back in a stop from which the kernel restarts the
 * interrupted call, so no errno 512 leaks and no relative sleep is cut short.
 *
 * The caller is the only thread of its process; waits are bounded by deadlines on CLOCK_MONOTONIC,
 * in microseconds. SIGCHLD must be blocked in the caller, neither ignored nor with SA_NOCLDSTOP
 * (waits use sigtimedwait(2) on it, so a SIGCHLD for another child may be eaten: the caller reaps
 * once more afterwards). A task that ends meanwhile is left to the caller's reaper, with its exit
 * status if it is a child. That must come soon: until then the kernel does not tell its real
 * parent, and an exec by another thread of its process waits for it.
 */
#ifndef MOLT_KERNEL_INJECT_H
#define MOLT_KERNEL_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

/* Everything about one seized thread. */
struct inject_target;

/*
 * Whether the task could be injected into, for a plan; touches nothing. 0, or what inject_seize()
 * and inject_wait_stopped() would refuse: -EPERM traced by another (the text says who), a kernel
 * thread, Yama's ptrace_scope=3; -ESRCH gone or zombie; -ENOTSUP a 32-bit task (other syscall
 * numbers); -ENOEXEC no vDSO.
 */
int inject_check(pid_t tid, struct error *e);
/* Whether it waits in vfork(2) for its child: it cannot stop before that ends. */
bool inject_waits_for_vfork(pid_t tid);
/* The process that traces it; 0: none. */
pid_t inject_tracer(pid_t tid);

/*
 * Attaches to thread `tid` and asks it to stop; does not wait for the stop, so that many can be
 * asked before the first is waited for. Refused (-errno with text): -EPERM and -ESRCH as above;
 * -EBUSY it waits in vfork(2) for its child, and would not stop before the child execs or ends;
 * -EINVAL SIGCHLD of the caller is not as it must be. *ret is the caller's until inject_release().
 */
int inject_seize(struct inject_target **ret, pid_t tid, struct error *e);

/*
 * Waits until the task has stopped; saves its registers and signal mask, blocks its signals.
 * -ETIMEDOUT where it does not answer (an uninterruptible sleep): the text names the tid and the
 * syscall it sleeps in; the call may be repeated. -EBUSY: it turned out to wait in vfork(2).
 * -ESRCH where it died. -ENOTSUP, -ENOEXEC as above.
 */
int inject_wait_stopped(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/*
 * Runs one syscall in the stopped target and stores its raw result (-4095..-1 is an errno) in
 * *ret_result. The task's cgroup must not be frozen. Needs no memory of the target. After an error
 * nothing further can be run, only released. -EFAULT: the task got a fault instead.
 */
int inject_syscall(struct inject_target *t, long number, const uint64_t args[6],
	int64_t *ret_result, uint64_t deadline_usec, struct error *e);

/*
 * After the last syscall for now, while the task's cgroup is not frozen: leads it back to where it
 * may be released in any case, frozen or not. More may be run later. Needed on arm64 only, and
 * nothing to do elsewhere; inject_apply() ends with it, and inject_release() catches up on it.
 */
int inject_settle(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/*
 * Puts the registers and the signal mask back and detaches; a task that was group-stopped is
 * stopped again. Frees `t`, except on -ETIMEDOUT: the kernel lets nobody detach from a task that
 * does not stop, so it stays attached; release it again when it answers (a SIGCHLD comes). Exiting
 * detaches as well, but a task left in the middle of a call of ours (inject_is_borrowed()) would
 * then run wild; one that was not has its registers again, whenever it answers. -ESRCH: it died
 * meanwhile. At least 20 ms are allowed, whatever the deadline. NULL is fine.
 */
int inject_release(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/*
 * After a crash in the middle of a call of ours: makes it ready for another one, which is to take
 * back what was done. What the call itself had not cleaned up in the target yet stays (but see
 * inject_clean_up()). -ETIMEDOUT or another negative errno with text: it can only be released.
 */
int inject_recover(struct inject_target *t, uint64_t deadline_usec, struct error *e);
/*
 * After a crash or an exec: lets go of a task that this process traces and has no target for any
 * more; it was seized, and is not borrowed. 1: done, 0: we do not trace it, -1: it has not stopped
 * by the deadline.
 */
int inject_release_stray(pid_t tid, uint64_t deadline_usec);

/* Whether calls may have been run in it: then it goes on as itself by inject_release() alone, and
 * would crash if only detached from. */
bool inject_is_borrowed(const struct inject_target *t);

/*
 * After a failure: whether that was the target's own doing. No descriptor free, no memory, a vDSO
 * that is none: so it would fail the next time as well, and for nobody else.
 */
bool inject_is_unable(const struct inject_target *t);

/* Which of several threads it is. */
pid_t inject_tid(const struct inject_target *t);

/* One change in a target, in terms of what the kernel holds for it. */
enum inject_action {
	INJECT_CWD, /* fchdir to `fd` */
	INJECT_FD, /* replace descriptor `target_fd` by `fd`, O_CLOEXEC as `cloexec` says (dup3) */
	INJECT_ROOT, /* chroot to `fd`, its cwd left as it is: needs CAP_SYS_CHROOT in the target */
};

struct inject_change {
	enum inject_action action;
	int fd; /* ours: the directory to pass in; stays ours */
	int target_fd; /* INJECT_FD: the number in the target */
	bool cloexec; /* INJECT_FD */
	int result; /* out: 0 done, negative errno, or -ECANCELED if never tried */
};

/*
 * Applies the changes to the stopped target in order: one scratch page (mmap in the target,
 * unmapped after; where mmap is refused, some bytes below the red zone of its stack, put back
 * after), one socketpair per 200 fds whose far end we fetch with pidfd_getfd(2), one SCM_RIGHTS
 * message, then fchdir/dup3/chroot; everything it opened in the target is closed again, also on
 * failure. Stops at the first change that fails: results say how far it got. Neither the target's
 * paths nor its seccomp filter matter (PTRACE_O_SUSPEND_SECCOMP), but its credentials do in one
 * respect: fchdir(2) and chroot(2) want search permission on the directory, else -EACCES. Its limit
 * on descriptors is raised meanwhile as far as we may (prlimit(2)). All threads that share its
 * memory, fs struct or descriptor table must stand still: seized or frozen.
 */
int inject_apply(struct inject_target *t, struct inject_change *changes, size_t n,
	uint64_t deadline_usec, struct error *e);
/*
 * After an inject_apply() that the target was too slow for, and inject_recover(): closes what that
 * had opened there. Everybody who shares the descriptor table has stood still since, or a number
 * may be somebody else's by now. Of a task that is in no such state nothing is touched.
 */
void inject_clean_up(const struct inject_target *t, uint64_t deadline_usec);

#endif
