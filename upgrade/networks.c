/* SPDX-License-Identifier: MIT */
#include "upgrade/networks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/process.h"
#include "kernel/unix_diag.h"
#include "kernel/util.h"
#include "upgrade/answer.h"

#define NETWORKS_MAX 1024
#define CHILD_USEC (5 * USEC_PER_SEC)

/* Finding them */

/* 0: it has none any more. */
static uint64_t network_of(pid_t pid)
{
	char path[48];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static bool is_known(const struct networks *n, uint64_t id)
{
	for (size_t i = 0; i < n->count; i++)
		if (n->list[i].id == id)
			return true;
	return false;
}

bool networks_is_new(const struct networks *n, pid_t pid)
{
	uint64_t id = network_of(pid);

	return id && !is_known(n, id);
}

static int add(struct networks *n, pid_t pid)
{
	char path[48];
	struct stat st;

	if (n->count == NETWORKS_MAX)
		return -E2BIG;
	struct network *grown = reallocarray(n->list, n->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	n->list = grown;
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	n->list[n->count++] = (struct network){.id = st.st_ino, .fd = fd_steal(&fd), .diag = -1};
	return 0;
}

static int add_if_new(pid_t pid, void *userdata)
{
	struct networks *n = userdata;

	return networks_is_new(n, pid) ? add(n, pid) : 0;
}

static int add_own(struct networks *n)
{
	n->list = calloc(1, sizeof(*n->list));
	if (!n->list)
		return -ENOMEM;
	n->list[0] = (struct network){.id = network_of(getpid()), .fd = -1, .diag = -1};
	n->count = 1;
	n->list[0].diag = unix_diag_open();
	return n->list[0].diag < 0 ? n->list[0].diag : 0;
}

/* The child: a socket in each of the others */

static void __attribute__((noreturn)) open_all(const struct networks *n, int socket)
{
	for (uint32_t i = 1; i < n->count; i++) {
		/* Of a user who may not let us in, nothing is known, and the plan has said so. */
		int diag = setns(n->list[i].fd, CLONE_NEWNET) < 0 ? -1 : unix_diag_open();
		if (diag >= 0 && answer_packet(socket, &i, sizeof(i), diag) < 0)
			_exit(1);
		(void)fd_close(diag);
	}
	uint32_t end = (uint32_t)n->count;
	_exit(answer_packet(socket, &end, sizeof(end), -1) < 0);
}

/* 1: that was the last. */
static int receive(struct networks *n, int socket, uint64_t deadline_usec)
{
	struct pollfd ready = {.fd = socket, .events = POLLIN};
	uint64_t now = clock_usec();
	uint32_t at;
	int fd;

	if (now >= deadline_usec)
		return -ETIMEDOUT;
	if (poll(&ready, 1, (int)((deadline_usec - now) / USEC_PER_MSEC) + 1) <= 0)
		return 0;
	ssize_t length = answer_receive(socket, (char *)&at, sizeof(at), &fd);
	if (length == -EAGAIN || length == -EINTR)
		return 0;
	if (length == sizeof(at) && at == n->count && fd < 0)
		return 1;
	if (length != sizeof(at) || at == 0 || at >= n->count || fd < 0) {
		(void)fd_close(fd);
		return length < 0 ? (int)length : -EPIPE;
	}
	(void)fd_close(n->list[at].diag);
	n->list[at].diag = fd;
	return 0;
}

static int open_others(struct networks *n)
{
	uint64_t deadline_usec = deadline_in(CHILD_USEC);
	int ends[2], pidfd, r = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		open_all(n, ends[1]);
	}
	(void)fd_close(ends[1]);
	while (pid > 0 && r == 0)
		r = receive(n, ends[0], deadline_usec);
	(void)fd_close(ends[0]);
	if (pid < 0)
		return pid;
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	(void)fd_close(pidfd);
	return r < 0 ? r : 0;
}

int networks_find(struct networks *n, int tree, struct error *e)
{
	*n = (struct networks){0};
	int r = add_own(n);

	if (r == 0)
		r = cgroup_each_process(tree, add_if_new, n);
	if (r == 0 && n->count > 1)
		r = open_others(n);
	return r < 0 ? error_set(e, r, "cannot look into the network name spaces") : 0;
}

void networks_done(struct networks *n)
{
	for (size_t i = 0; i < n->count; i++) {
		(void)fd_close(n->list[i].fd);
		(void)fd_close(n->list[i].diag);
	}
	free(n->list);
	*n = (struct networks){0};
}
