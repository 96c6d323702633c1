/* SPDX-License-Identifier: MIT */
/*
 * cgroup v2 by directory descriptors: cgroups(7), Documentation/admin-guide/cgroup-v2.rst. Nothing
 * here blocks: cgroup.freeze and cgroup.kill only ask, cgroup.events tells when it is so.
 */
#ifndef MOLT_KERNEL_CGROUP_H
#define MOLT_KERNEL_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Creates (if missing) and opens NAME below dirfd: a descriptor or negative errno. */
int cgroup_make(int dirfd, const char *name);

/* Writes cgroup.freeze; the tasks stop (or run) some time after. 0 or negative errno. */
int cgroup_freeze(int cgroup, bool freeze);

/* Opens cgroup.events for polling (EPOLLPRI when a value changes) and cgroup_events(). */
int cgroup_open_events(int cgroup);
/* Reads both facts; either may be NULL. 0 or negative errno. */
int cgroup_events(int events_fd, bool *ret_populated, bool *ret_frozen);

/* Waits until cgroup.events says frozen=`frozen`. -ETIMEDOUT past the deadline (CLOCK_MONOTONIC).
 */
int cgroup_wait_frozen(int events_fd, bool frozen, uint64_t deadline_usec);

/* SIGKILL to every process in it and below (Linux 5.14; before, one by one). 0 or negative errno.
 */
int cgroup_kill(int cgroup);

/* A signal to every process in it and below. Returns how many got it, or negative errno. */
int cgroup_signal(int cgroup, int signal);

/* Removes NAME below dirfd with all its empty children. -EBUSY while a process is in one. */
int cgroup_remove(int dirfd, const char *name);

/*
 * Calls `visit` for each leaf-first cgroup in `cgroup` (itself included); stops at the first
 * non-zero return and gives it back. `path` is relative to `cgroup`, "" for itself. Depth is
 * bounded to CGROUP_DEPTH, beyond it -ELOOP.
 */
#define CGROUP_DEPTH 200
typedef int (*cgroup_visit)(int cgroup, const char *path, void *userdata);
int cgroup_walk(int cgroup, cgroup_visit visit, void *userdata);
/* Forbids nesting below it deeper than that: mkdir(2) there is -EAGAIN then. 0 or negative errno.
 */
int cgroup_limit_depth(int cgroup);

/*
 * The ids in cgroup.procs or cgroup.threads, appended to a growing array. The kernel's order; a pid
 * may be there twice. 0 or negative errno.
 */
struct pid_array {
	pid_t *pids;
	size_t count;
	size_t capacity;
};
int cgroup_pids(int cgroup, const char *file, struct pid_array *list);
/* Calls `visit` for each process in `cgroup` and below it, as cgroup_walk(); one that is removed
 * meanwhile has none. */
typedef int (*cgroup_visit_process)(pid_t pid, void *userdata);
int cgroup_each_process(int cgroup, cgroup_visit_process visit, void *userdata);
int pid_array_add(struct pid_array *list, pid_t pid);
void pid_array_free(struct pid_array *list);

/* The cgroup of a process, as /proc/PID/cgroup has it ("/tree/nginx.service/1"). 0, -ENAMETOOLONG
 * or negative errno. */
int cgroup_of_pid(pid_t pid, char *buf, size_t size);
/*
 * Where below `cgroup` a process was that has ended and been reaped: the path relative to it
 * ("nginx.service/1"). 0; -EBUSY: it is alive, or a zombie; -ENOTSUP: this kernel does not tell
 * (before Linux 6.15); -EXDEV: not below that; -ESTALE: that cgroup is gone too; or another errno.
 */
int cgroup_of_dead(int pidfd, int cgroup, char *buf, size_t size);

#endif
