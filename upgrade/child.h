/* SPDX-License-Identifier: MIT */
/*
 * A child of PID 1 that does what is slow or risky, and answers by records (answer.h), one a
 * packet. PID 1 takes them in its loop as they come, and does not wait for ever.
 */
#ifndef MOLT_UPGRADE_CHILD_H
#define MOLT_UPGRADE_CHILD_H

#include "conf/record.h"
#include "kernel/loop.h"
#include "kernel/process.h"

struct child_answer {
	const struct record *record;
	const char *text; /* the same as it came */
	size_t length;
	int fd; /* came along, -1: none; closed unless it is taken out (fd_steal()) */
};

struct child;

/* Each may begin the same child anew, or free it. */
struct child_hooks {
	void (*answer)(struct child *c, struct child_answer *a);
	/* No more answers come: 0, it has ended; or negative errno, one could not be received, and
	 * it was killed. */
	void (*ended)(struct child *c, int r);
	/* Its deadline has passed, and it was killed: no more answers come. */
	void (*late)(struct child *c);
};

/* Embedded in its owner; begins as CHILD_NONE. */
struct child {
	const struct child_hooks *hooks;
	struct process process;
	struct loop_source answers;
	struct loop_timer timer; /* may be set anew */
};

#define CHILD_NONE                                                        \
	{                                                                 \
		.process = {.source = {.fd = -1}}, .answers = {.fd = -1 } \
	}

/*
 * Like process_fork(): 0 in the child, with *ret_socket for answer_send(), or its pid, or negative
 * errno; then no hook is called. None may be under way.
 */
pid_t child_fork(struct child *c, int cgroup, const struct child_hooks *hooks,
	uint64_t deadline_usec, int *ret_socket);
/* Its answers are still to come. */
bool child_is_busy(const struct child *c);
/* Hears no more of one that has sent its last descriptor. */
void child_leave(struct child *c);
/* Kills it and hears no more of it. Does nothing if none is under way. */
void child_cancel(struct child *c);

#endif
