/* SPDX-License-Identifier: MIT */
/* What the files of the injection share among themselves; others include kernel/inject.h alone. */
#ifndef MOLT_KERNEL_INJECT_TARGET_H
#define MOLT_KERNEL_INJECT_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"
#include "kernel/inject_arch.h"

/* Linux 6.4, absent from older headers: struct ptrace_sud_config of <linux/ptrace.h>. */
struct inject_dispatch {
	uint64_t mode;
	uint64_t selector;
	uint64_t offset;
	uint64_t len;
};

enum inject_stop {
	INJECT_STOP_NONE, /* it runs, as far as we know */
	INJECT_STOP_EVENT, /* PTRACE_EVENT_STOP: where registers may be put back */
	INJECT_STOP_SYSCALL, /* entry or exit of a system call */
	INJECT_STOP_SIGNAL, /* a signal is about to be delivered */
};

/* The call that it is in or about to make, where that has to be met at its entry: inject_arch.h. */
enum inject_own {
	INJECT_OWN_UNKNOWN,
	INJECT_OWN_NONE, /* there is none, or this processor needs no such care */
	INJECT_OWN_ENTERED, /* it stands at the entry, with its own registers */
	INJECT_OWN_LEFT, /* it was led away from there, with nothing done */
};

struct inject_target {
	pid_t tid;
	enum inject_stop stop;
	int signal; /* INJECT_STOP_SIGNAL: which; 0 once it must not be delivered */
	bool asked; /* an INTERRUPT is pending: the next stop of any kind uses it up */
	bool unable; /* a call failed in it, or it did something else instead */
	bool astray; /* a call went wrong half way: no further one */
	bool borrowed; /* the fields below are valid and are to be put back */
	struct inject_registers saved;
	struct inject_vectors *vectors; /* or NULL */
	enum inject_own own;
	uint64_t mask;
	uint64_t instruction; /* address in the target */
	struct inject_dispatch dispatch; /* mode != 0: switched off meanwhile */
};

/*
 * The steps between stops (inject_stop.c). Awaiting the next one: -ESRCH, it has ended; -EBUSY, it
 * waits in vfork(2); -ETIMEDOUT with where it is instead. A pending signal is delivered by
 * resuming.
 */
int inject_await_stop(struct inject_target *t, uint64_t deadline_usec, struct error *e);
int inject_resume(struct inject_target *t, int request, struct error *e);
int inject_interrupt(struct inject_target *t, struct error *e);
/* The text, and -EBUSY. */
int inject_refuse_vfork(pid_t tid, struct error *e);

/* Lets a stopped task go on to the next entry or exit of a call. -EFAULT: it got a fault instead.
 */
int inject_to_syscall_stop(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/* Before a call of ours: learns of the task's own, if that is not known yet, and leads it away. */
int inject_leave_own_call(struct inject_target *t, uint64_t deadline_usec, struct error *e);

/* Address of the instruction in the task's vDSO. -ENOTSUP: a 32-bit one; -ENOEXEC: none. */
int inject_find_instruction(pid_t tid, uint64_t *ret_address, struct error *e);

/* Moves the ip out of an rseq critical section, to its abort handler. */
int inject_leave_rseq(pid_t tid, struct inject_registers *regs);

/* Lets the kernel restart a call that it would end with EINTR, where nothing can be lost by it. */
void inject_spare_eintr(struct inject_registers *regs);

void inject_note_unable(struct inject_target *t);

/* Text for a refused PTRACE_SEIZE. Returns the errno that fits best. */
int inject_explain_refusal(pid_t tid, int code, struct error *e);
/* Whether its status shows a seccomp filter; true if that cannot be read. */
bool inject_filtered(pid_t tid);
/* The first thread of its process; 0 if it is gone. */
pid_t inject_thread_group(pid_t tid);

#endif
