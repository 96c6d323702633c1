/* SPDX-License-Identifier: MIT */
#include "upgrade/mount_open.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"

#define ANSWER_USEC (300 * USEC_PER_MSEC)

static int open_path(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static void __attribute__((noreturn)) open_as_child(const char *path, int socket)
{
	int fd = open_path(path), r = fd < 0 ? fd : 0;

	_exit(answer_packet(socket, &r, sizeof(r), fd) < 0);
}

static int take(int socket)
{
	struct pollfd ready = {.fd = socket, .events = POLLIN};
	uint64_t deadline_usec = deadline_in(ANSWER_USEC), now;
	int answer, fd = -1;

	while ((now = clock_usec()) < deadline_usec) {
		if (poll(&ready, 1, (int)((deadline_usec - now) / USEC_PER_MSEC) + 1) <= 0)
			continue;
		ssize_t n = answer_receive(socket, (char *)&answer, sizeof(answer), &fd);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n == (ssize_t)sizeof(answer) && (answer < 0) == (fd < 0))
			return answer < 0 ? answer : fd;
		(void)fd_close(fd);
		return n < 0 ? (int)n : -EPIPE;
	}
	return -ETIMEDOUT;
}

/* The kernel lets whoever comes by an automount that is pending wait for its daemon, even one who
 * only wants to look; that may stand still. A child that waits there can be killed. */
static int open_by_child(const char *path)
{
	int ends[2], pidfd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		open_as_child(path, ends[1]);
	}
	(void)fd_close(ends[1]);
	int r = pid < 0 ? (int)pid : take(ends[0]);
	if (pid > 0) {
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		(void)fd_close(pidfd);
	}
	(void)fd_close(ends[0]);
	return r;
}

int mount_open(const struct mount *m)
{
	return strcmp(m->fstype, "autofs") == 0 ? open_by_child(m->target) : open_path(m->target);
}
