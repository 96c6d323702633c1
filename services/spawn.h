/* SPDX-License-Identifier: MIT */
/*
 * Starting a program of a service: fork into its cgroup, everything slow or risky (NSS, files,
 * sockets to logs) in the child. PID 1 never waits: a failure in the child before or at exec comes
 * back as text through a pipe that a successful exec closes.
 */
#ifndef MOLT_SERVICES_SPAWN_H
#define MOLT_SERVICES_SPAWN_H

#include "services/service.h"

struct passed_fd {
	int fd; /* borrowed */
	const char *name; /* in $LISTEN_FDNAMES */
};

struct spawn {
	const struct unit *unit;
	const struct command *command;
	int cgroup; /* to be born in */
	pid_t main_pid; /* $MAINPID; 0: not set */
	bool is_service; /* it becomes the service: not one of its other commands */
	const struct passed_fd *passed; /* $LISTEN_FDS */
	size_t n_passed;
	int handshake; /* $MOLT_FD; -1: none */
	const char *log_path;
};

/*
 * Returns the pid, its pidfd and the read end of the failure pipe (both O_CLOEXEC, the caller's),
 * or a negative errno with text.
 */
pid_t spawn_start(const struct spawn *s, int *ret_pidfd, int *ret_pipe, struct error *e);

/*
 * The same for a child that is to do `run`, which ends it, and not to be a program: `what` it is,
 * for the text of an error.
 */
typedef void (*spawn_child)(const void *argument, int pipe);
pid_t spawn_run(int cgroup, const char *what, spawn_child run, const void *argument, int *ret_pidfd,
	int *ret_pipe, struct error *e);

/* Reads the failure pipe: 1 with the text, 0 if the exec worked, -EAGAIN: not known yet. -1 for a
 * pipe is 0. */
int spawn_read_failure(int pipe, char *text, size_t size);

#endif
