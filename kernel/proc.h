/* SPDX-License-Identifier: MIT */
/* What /proc says about one task: proc(5). Nothing here follows a path into another file system. */
#ifndef MOLT_KERNEL_PROC_H
#define MOLT_KERNEL_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "kernel/cgroup.h"

/* From /proc/PID/stat. */
struct proc_stat {
	char comm[32];
	char state; /* R S D T t Z X I */
	pid_t ppid;
	dev_t tty; /* its controlling terminal; 0: none */
	uint64_t start_time; /* clock ticks since boot: with the pid, which process it is */
};
int proc_stat_read(pid_t pid, struct proc_stat *ret);
/* Its name; "?" if it is gone. */
void proc_comm(pid_t pid, char *buf, size_t size);

/* Its controlling terminal as a person calls it: "pts/3", "tty1". False: it has none. */
bool proc_terminal(pid_t pid, char *buf, size_t size);

/* "nr wchan" of a task that sleeps, for messages: "in syscall 58 at do_wait". Never fails; "?" at
 * worst. */
void proc_where(pid_t tid, char *buf, size_t size);

/* Whether it has more than one thread. */
int proc_has_threads(pid_t pid); /* 1, 0 or negative errno */
/* Thread ids of a process, appended. */
int proc_threads(pid_t pid, struct pid_array *list);
/* All processes of the pid name space, appended. */
int proc_processes(struct pid_array *list);

/* Whether both tasks share their fs struct or their descriptor table: kcmp(2). Without kcmp: false.
 */
bool proc_same_fs(pid_t a, pid_t b);
bool proc_same_files(pid_t a, pid_t b);

/* Resident memory in bytes, from statm; 0 if it is gone. */
uint64_t proc_rss(pid_t pid);

/* The mount that the file behind /proc/PID/LINK ("cwd", "root", "exe") lies on; negative errno. */
int proc_link_mount(pid_t pid, const char *link, uint64_t *ret_mount_id);
/* Whether its program lies on the root of a mount namespace of its own, and that root is the same
 * directory as ours: another mount of the same image. */
bool proc_runs_from_copy_of_root(pid_t pid);
/* Where the link points, as text, cut to `size`. 0 or negative errno. */
int proc_link_text(pid_t pid, const char *link, char *buf, size_t size);

/* Whether such an error only says that the task has ended (or its descriptor was closed). */
bool proc_is_gone(int r);

/*
 * One open descriptor of a task. `mount_id` is 0 for what lies on no mount one could name (sockets,
 * pipes, anon inodes are reported too).
 */
struct proc_fd {
	int fd;
	uint64_t mount_id;
	mode_t mode; /* type and permissions of the file */
	dev_t dev;
	ino_t ino;
	nlink_t nlink;
};

/*
 * Calls `visit` for each open descriptor of task `tid` (statx(2) through /proc/TID/fd: one call
 * each). Stops at the first non-zero return and gives it back. -ESRCH/-ENOENT: it is gone.
 */
typedef int (*proc_fd_visit)(const struct proc_fd *fd, void *userdata);
int proc_fds(pid_t tid, proc_fd_visit visit, void *userdata);

/* From /proc/TID/fdinfo/FD: offset and open flags (O_ACCMODE, O_PATH, O_CLOEXEC as the descriptor
 * has it). */
int proc_fd_info(pid_t tid, int fd, int64_t *ret_offset, int *ret_flags);

#endif
