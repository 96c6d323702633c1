/* SPDX-License-Identifier: MIT */
/* The life of a guard (guard.h). Internal to it. */
#ifndef MOLT_KERNEL_GUARD_WATCH_H
#define MOLT_KERNEL_GUARD_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/guard.h"

/* The first byte of a message; a failure's text follows. */
#define GUARD_READY 'r' /* from the guard: it watches, or has let go; a text instead: it cannot */
#define GUARD_LOADED 'l' /* where its _exit(2) is follows, a decimal number */
#define GUARD_UP 'u'
#define GUARD_FAILED 'f'

enum guard_next { GUARD_GO_ON, GUARD_LET_GO, GUARD_FALL_BACK, GUARD_GONE };

struct guard_watch {
	const struct guard_fallback *fallback;
	uint64_t timeout_usec;
	pid_t tracee;
	int theirs, ours; /* the ends of the channel */

	int children; /* a signalfd of SIGCHLD */
	uint64_t mask; /* its signal mask */
	bool loaded; /* it is another program now: from here on it counts */
	bool fallen; /* that is the fallback */
	uint64_t deadline_usec; /* once loaded */
	bool runs_free; /* its calls do not stop it, but its _exit(2) */
	enum guard_next said; /* by what it said, to be done at the next stop */
	bool asked; /* an INTERRUPT is pending */
	bool entering; /* the last stop was the entry of a call */
	bool exec_failed; /* the last call was an exec, and has failed */
	long number; /* of that; -1: not one of our architecture */
	char why[300]; /* how it failed */
};

void __attribute__((noreturn)) guard_watch(struct guard_watch *w);

/* The tracee's status, 0 where there is none yet, or negative: it has ended. */
int guard_collect(const struct guard_watch *w);
/* Makes it execute the fallback, which is watched then like the program in whose place it is. */
void guard_replace(struct guard_watch *w);
/* Keeps it stopped for as long as we live, and says why. */
void __attribute__((noreturn)) guard_hold(const struct guard_watch *w, const char *why);

/* Of the last stop of the tracee: whether its program has failed by it, w->why filled. */
bool guard_call_is_the_end(struct guard_watch *w, long number, const uint64_t args[6]);
bool guard_signal_is_the_end(struct guard_watch *w, int signal, int code, pid_t sender);

#endif
