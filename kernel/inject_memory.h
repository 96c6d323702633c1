/* SPDX-License-Identifier: MIT */
/*
 * Memory of another process, as it is in RAM or swap. A page that is not there would be fetched for
 * us, and by whom its owner decides: a FUSE file system or userfaultfd(2) whose daemon is frozen,
 * or means no good, would keep us for ever in a sleep that no signal ends.
 */
#ifndef MOLT_KERNEL_INJECT_MEMORY_H
#define MOLT_KERNEL_INJECT_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * How many of `size` bytes from `address` on can be read without waiting for anybody; at most up to
 * the first page that cannot. The task's mappings must stand still. 0 too if that cannot be told.
 */
size_t inject_memory_readable(pid_t tid, uint64_t address, size_t size);
/* The same for writing: only what is the process's own, and not a file's. */
size_t inject_memory_writable(pid_t tid, uint64_t address, size_t size);

/* Why not: -ESRCH where the task is gone, else -EFAULT. */
int inject_memory_why_not(pid_t tid);

/* Reads all of it. 0; -EFAULT: it is not there, or would have to be waited for; -ESRCH and others
 * of process_vm_readv(2). */
int inject_memory_read(pid_t tid, uint64_t address, void *buf, size_t size);

#endif
