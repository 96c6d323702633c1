/* SPDX-License-Identifier: MIT */
/*
 * Processes that PID 1 watches: by pidfd (pidfd_open(2)), in the event loop. A process may be our
 * child or, after a daemon re-executed itself by forking, somebody else's: both are watched alike,
 * only the exit status of the latter is unknown.
 */
#ifndef MOLT_KERNEL_PROCESS_H
#define MOLT_KERNEL_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "kernel/loop.h"

struct process_exit {
	bool known; /* false: it was not our child */
	bool signal; /* killed by a signal; else it exited */
	int status; /* the exit code or the signal */
};

/* Embedded in its owner; zero is "no process". */
struct process {
	pid_t pid; /* 0: none */
	int pidfd; /* owned while pid is not 0 */
	struct loop_source source;
	/* Called once, when it has ended and was reaped; the struct is "no process" again by then.
	 */
	void (*exited)(struct process *p, const struct process_exit *exit);
	struct process *next, *previous; /* of all that are watched */
};

/*
 * Every signal back to its default action, for this process and those that it forks. What the
 * program before it (a shell of an initramfs, a manager of containers) has ignored stays ignored
 * over execve(2) and CLONE_CLEAR_SIGHAND alike: SIGCHLD would then leave nobody to be waited for,
 * and a service would not hear its KillSignal=.
 */
void process_default_signals(void);

/*
 * Like fork(2), with the child born in `cgroup` (a directory descriptor, -1: the caller's), all
 * signal handlers default (CLONE_CLEAR_SIGHAND; what is ignored stays so) and no signal blocked.
 * Returns 0 in the child, the pid in the parent with the pidfd in *ret_pidfd (O_CLOEXEC, the
 * caller's), or a negative errno. Never waits for the child.
 */
pid_t process_fork(int cgroup, int *ret_pidfd);
/* For a sentence about why it failed: what a person can do about it, in brackets, or "". */
const char *process_fork_hint(int r);

/* Watches pid; takes over `pidfd` (-1: one is opened). 0 or negative errno (pidfd closed then);
 * -EBUSY: p watches one. */
int process_watch(struct process *p, pid_t pid, int pidfd);
/*
 * The same for a process that an earlier life watched: `pidfd` is used if it is one of that
 * process. If there is no such process any more `exited` is called at the loop's next turn.
 * `may_open` says whether it may be looked for by its number (which could be somebody else's by
 * now).
 */
int process_adopt(struct process *p, pid_t pid, int pidfd, bool may_open);
/* Stops watching; it lives on. */
void process_forget(struct process *p);
/* Sends by pidfd, so never to a stranger that got the number. 0 or negative errno; -ESRCH: none. */
int process_signal(const struct process *p, int signal);

/*
 * Reaps what has ended: what is watched gets its call, strangers are just buried. True: there may
 * be more, but that is enough for one turn of the loop.
 */
bool process_reap_all(void);

/*
 * From now on the dead are not buried at once: they keep their number and exit code until
 * process_bury(), for a life that has to ask again; and process_reap_all() takes one that is
 * watched at a time.
 */
void process_keep_dead(void);
bool process_to_bury(void);
void process_bury(void);

/* "exited with code 1", "was killed by SIGSEGV", "ended". */
void process_exit_describe(const struct process_exit *exit, char *buf, size_t size);
/* Ended by exit code 0. */
bool process_exit_clean(const struct process_exit *exit);

#endif
