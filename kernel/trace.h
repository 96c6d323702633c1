/* SPDX-License-Identifier: MIT */
/* What every tracer does with ptrace(2): its requests, and the sleep until a stop is there. */
#ifndef MOLT_KERNEL_TRACE_H
#define MOLT_KERNEL_TRACE_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* The status of a stop at a call's entry or exit, under PTRACE_O_TRACESYSGOOD. */
#define TRACE_SYSCALL_STOP (SIGTRAP | 0x80)

/*
 * Not every change in a task sends us a SIGCHLD: when another thread of its process execs, the old
 * thread group leader vanishes without one (de_thread() only wakes sleepers in wait4). So nobody
 * sleeps longer than this without looking again. What matters for speed, the stops, come with a
 * signal.
 */
#define TRACE_LOOK_AGAIN_USEC 20000ULL

/*
 * What ptrace(2) returns, or a negative errno; for requests whose result is no data. -ESRCH from a
 * task that stood still means that it was killed.
 */
int trace_request(int request, pid_t tid, uintptr_t address, uintptr_t data);

/* Until something happened to a child, or it is time to look. SIGCHLD must be blocked; one is
 * taken. */
void trace_sleep(uint64_t usec);

#endif
