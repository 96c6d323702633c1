/* SPDX-License-Identifier: MIT */
/*
 * Making a task that we trace, and that stands still, execute another program: by an execveat(2)
 * run in it, with descriptors of ours, whatever is left of its own. For a program that is about to
 * end and whose process must not.
 */
#ifndef MOLT_KERNEL_INJECT_EXEC_H
#define MOLT_KERNEL_INJECT_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

struct inject_exec {
	int exe; /* ours: the program */
	int root; /* ours: its root and working directory */
	/* It gets our resource limits, too. Descriptors of ours that it gets at the same numbers,
	 * in ascending order; all else that the task has open is closed by the exec. */
	const int *fds;
	size_t n_fds;
	char *const *argv; /* at most some 500 bytes */
	/* Of what does not fit, some 3,000 bytes (500 where the task gets no page of memory), the
	 * rest is left out. */
	char *const *environment;
	uint64_t mask; /* the signals blocked afterwards */
};

/*
 * `tid` is traced by us with PTRACE_O_TRACESYSGOOD and without PTRACE_O_TRACEEXEC, and its last
 * stop has been collected: the entry of a call (`entering`; that call is never made) or any other.
 * A signal that stop was about is dropped. SIGCHLD as for inject_seize(). On success it stands
 * still at the first instruction of the new program, still traced. After an error it stands still
 * somewhere, or is gone (-ESRCH), or does not answer (-ETIMEDOUT); it has its old program, but must
 * not go on with it. -ENOEXEC: it has no memory left that a call can be made from.
 *
 * The task fetches the descriptors itself, so it needs what pidfd_getfd(2) wants.
 */
int inject_exec(pid_t tid, bool entering, const struct inject_exec *x, uint64_t deadline_usec,
	struct error *e);

#endif
