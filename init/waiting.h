/* SPDX-License-Identifier: MIT */
/* What a boot or a shutdown waits for, in sentences on the console: a person in front of it sees a
 * name, not a cursor. */
#ifndef MOLT_INIT_WAITING_H
#define MOLT_INIT_WAITING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/cgroup.h"

/* When the first and each further word comes, after a step has begun. */
#define WAITING_EVERY_USEC (5 * 1000000ULL)

/* Services that have not stopped, each with its own limit, or with `deadline_usec` of them all. */
void waiting_for_services(uint64_t deadline_usec);
/* Processes that are left in the tree; `killed`: they were sent SIGKILL. */
void waiting_for_processes(bool killed);
/* The same of these. */
void waiting_for_pids(const struct pid_array *list, bool killed);
/* The child `pid` that does `what`. */
void waiting_for_child(const char *what, pid_t pid, uint64_t since_usec, uint64_t deadline_usec);
/* A stage of the boot, "checking the root file system", and its child `pid`: by what that one runs.
 * A `deadline_usec` of 0 or infinity is none. */
void waiting_for_stage(const char *what, pid_t pid, uint64_t since_usec, uint64_t deadline_usec);
/* The same of those of these services (ended by a NULL) that have not come up. */
void waiting_to_come_up(
	const char *what, char *const *names, uint64_t since_usec, uint64_t deadline_usec);
/* The device that a mount waits for; of a child. */
void waiting_for_device(const char *source, uint64_t since_usec, uint64_t deadline_usec);
/* Where people see it, whatever the kernel shows of its log; and in the log. */
void waiting_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
