/* SPDX-License-Identifier: MIT */
/*
 * The guard of an exec: a child that traces its parent, which is about to become another program
 * by execve(2), until that program says that it stands on its own feet. Where it does not get that
 * far, its end is averted, and the guard makes it execute the fallback.
 *
 *     parent:  guard_begin() .. execve() .. guard_say_loaded() .. guard_say_up()  (.._failed())
 *     guard:   seize, watch calls and signals, let go and end  (or the fallback, watched too)
 *
 * What counts as failing: a fault (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS from the
 * kernel; SIGABRT from itself), whether there is a handler or not; exit(2), exit_group(2); a
 * reboot(2) that ends the system; the deadline; guard_say_failed(). Not one of these has had an
 * effect by then: a call that is entered is not made, a signal that stops a traced task does not
 * kill it, not even the init of the system (force_sig_info_to_task() in kernel/signal.c leaves
 * SIGNAL_UNKILLABLE alone while there is a tracer).
 *
 * A program that knows nothing of this, an older version, is let go when it begins to wait for
 * events (epoll_wait(2) and its kin): that it has got into its loop is what it would have said.
 *
 * Where even the fallback fails, the guard keeps its parent stopped and stays, and says so on
 * /dev/kmsg: better a system that nobody reaps in than one that panics. A guard that is killed just
 * detaches: the parent goes on unguarded.
 *
 * Not seen: threads other than the first; a 32-bit program's exit. Not averted, but held as well:
 * an exec that fails when the program before is gone already. SIGKILL is let happen: it comes from
 * outside of a PID namespace, and the init of the system gets none.
 */
#ifndef MOLT_KERNEL_GUARD_H
#define MOLT_KERNEL_GUARD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

struct guard_fallback {
	int exe; /* the program, any descriptor of it */
	int root; /* the directory that is its root */
	int kept; /* gets to it although it is O_CLOEXEC, as all others do that are not; -1 */
	/* argv[why] is replaced by what happened, a predicate: "was killed by SIGSEGV while it took
	 * over"; argv[channel] by the number for guard_say_up(). */
	char *const *argv;
	size_t why, channel;
	char *const *environment;
};

#define GUARD_ARGUMENTS_MAX 12

/* Seen from the parent; -1 and 0: there is none. */
struct guard {
	int channel; /* not O_CLOEXEC: the number is told to the new program */
	pid_t pid;
	int pidfd;
};

/*
 * Forks the guard and waits, at most two seconds, until it watches us. The next execve(2) is the
 * one that counts; what is not O_CLOEXEC by now is what the fallback gets. -errno with text: there
 * is no guard (traced already, Yama, no memory). The caller is single-threaded.
 */
int guard_begin(struct guard *ret, const struct guard_fallback *fallback, uint64_t timeout_usec,
	struct error *e);
/* The exec has failed: the guard goes. Does nothing if there is none. */
void guard_cancel(struct guard *g);

/*
 * In the new program: it has got to its own code, which ends by libc's _exit(2) or not at all. From
 * here on not each of its calls is watched, which costs some ten microseconds, but that place: by a
 * breakpoint of the processor's, or, where it has none to give, by its calls as before. What ends
 * by a call of its own is not replaced any more, but is kept from ending. -1 is fine, here and
 * below.
 */
void guard_say_loaded(int channel);
/* It can go on alone. Closes the channel. */
void guard_say_up(int channel);
/* It cannot, and why, as a predicate. Returns only if nobody guards it. */
void guard_say_failed(int channel, const char *why);

#endif
