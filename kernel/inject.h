/* SPDX-License-Identifier: MIT */
/*
 * Running syscalls in another process: ptrace SEIZE + INTERRUPT, the `syscall` instruction of the
 * target's own vDSO, nothing of its text or memory written, nothing of libc.
 *
 * Life of a target: seize (works while its cgroup is frozen), then, once its cgroup is thawed, any
 * number of syscalls, then release. Between seize and release the task does not run a single
 * instruction of its own. A task that slept in a syscall goes on sleeping afterwards: the
 * registers are put back in a stop from which the kernel restarts the interrupted call, so no
 * errno 512 leaks and no relative sleep is cut short.
 *
 * The caller is the only thread of its process; waits are bounded by deadlines on CLOCK_MONOTONIC,
 * in microseconds. SIGCHLD must be blocked in the caller (waits use sigtimedwait(2) on it, so a
 * SIGCHLD for another child may be eaten: the caller reaps once more afterwards).
 */
#ifndef MOLT_KERNEL_INJECT_H
#define MOLT_KERNEL_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

/* Everything about one seized thread. */
struct inject_target;

/*
 * Attaches to thread `tid` and asks it to stop; does not wait for the stop, so that many can be
 * asked before the first is waited for. Refused (-errno with text): -EPERM already traced, or
 * Yama's ptrace_scope=3; -ESRCH gone or zombie; -ENOTSUP a 32-bit task (other syscall numbers);
 * -ENOEXEC no vDSO with a syscall instruction. *ret is the caller's until inject_release().
 */
int inject_seize(struct inject_target **ret, pid_t tid, struct error *e);

/*
 * Waits until the task has stopped, saves its registers and signal mask state. -ETIMEDOUT where it does not answer (a vfork
 * parent, an uninterruptible sleep): text names the tid and the syscall it sleeps in. -ESRCH where it died.
 */
int inject_wait_stopped(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/*
 * Runs one syscall in the stopped target and stores its raw result (-4095..-1 is an errno) in
 * *ret_result. The task's cgroup must not be frozen. Needs no memory of the target.
 */
int inject_syscall(struct inject_target *t, long number, const uint64_t args[6], int64_t *ret_result,
	uint64_t deadline_usec, struct error *e);

/*
 * Puts the registers back and detaches; a task that was group-stopped is stopped again. Always frees
 * `t` and always detaches, even when it returns an error (-ESRCH: it died meanwhile). NULL is fine.
 */
int inject_release(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/* Which of several threads it is. */
pid_t inject_tid(const struct inject_target *t);

/* One change in a target, in terms of what the kernel holds for it. */
enum inject_action {
	INJECT_CWD,  /* fchdir to `fd` */
	INJECT_FD,   /* replace descriptor `target_fd` by `fd`, O_CLOEXEC as `cloexec` says (dup3) */
	INJECT_ROOT, /* chroot to `fd`, its cwd left as it is: needs CAP_SYS_CHROOT in the target */
};

struct inject_change {
	enum inject_action action;
	int fd;        /* ours: the directory to pass in; stays ours */
	int target_fd; /* INJECT_FD: the number in the target */
	bool cloexec;  /* INJECT_FD */
	int result;    /* out: 0 done, negative errno, or -ECANCELED if never tried */
};

/*
 * Applies the changes to the stopped target in order: one scratch page (mmap in the target, unmapped
 * after; it writes no existing memory of the target), one socketpair whose far end we fetch with pidfd_getfd(2), one
 * SCM_RIGHTS message per 200 fds, then fchdir/dup3/chroot; everything it opened in the target is closed again. Stops at
 * the first change that fails: results say how far it got. Neither the credentials nor the paths nor the
 * seccomp filter of the target matter (PTRACE_O_SUSPEND_SECCOMP). If the target is at its RLIMIT_NOFILE,
 * its soft limit is raised by what is needed and put back (prlimit(2)).
 */
int inject_apply(struct inject_target *t, struct inject_change *changes, size_t n, uint64_t deadline_usec,
	struct error *e);

#endif
