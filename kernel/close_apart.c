/* SPDX-License-Identifier: MIT */
#include "kernel/close_apart.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kernel/process.h"
#include "kernel/util.h"

#define HELD 3
#define SIGN 4

/* Of all the parent's descriptors it keeps these two: it may live long, and whoever waits for the
 * end of a connection must not wait for that. */
static void __attribute__((noreturn)) hold(int fd, int sign)
{
	int held = fcntl(fd, F_DUPFD, SIGN + 1);
	int end = fcntl(sign, F_DUPFD, SIGN + 1);
	char none;

	if (held < 0 || end < 0 || dup2(held, HELD) < 0 || dup2(end, SIGN) < 0)
		_exit(1);
	(void)close_range(0, HELD - 1, 0);
	(void)close_range(SIGN + 1, ~0U, 0);
	while (read(SIGN, &none, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int fd_close_apart(int fd)
{
	int saved = errno, ends[2], pidfd = -1;

	if (fd < 0)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		errno = saved;
		return fd_close(fd);
	}
	if (process_fork(-1, &pidfd) == 0)
		hold(fd, ends[0]);
	/* The order is the point: the child waits for the end of the pipe. */
	(void)fd_close(fd);
	(void)fd_close(ends[0]);
	(void)fd_close(ends[1]);
	(void)fd_close(pidfd);
	errno = saved;
	return -1;
}
