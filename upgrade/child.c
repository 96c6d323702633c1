/* SPDX-License-Identifier: MIT */
#include "upgrade/child.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "kernel/close_apart.h"
#include "kernel/util.h"
#include "upgrade/answer.h"

static void take_packet(struct child *c, const char *buf, size_t length, int fd)
{
	struct child_answer a = {.text = buf, .length = length, .fd = fd};
	struct record_reader *reader;
	struct record r;

	if (record_reader_new(&reader, buf, length) == 0) {
		a.record = &r;
		if (record_next(reader, &r) == 1)
			c->hooks->answer(c, &a);
		record_reader_free(reader);
	}
	(void)fd_close(a.fd);
}

static void answers_ready(struct loop_source *s, uint32_t events)
{
	static char buf[CONTROL_PACKET_MAX];
	struct child *c = CONTAINER_OF(s, struct child, answers);
	int fd;
	ssize_t n = answer_receive(s->fd, buf, sizeof(buf), &fd);

	(void)events;
	if (n == -EAGAIN || n == -EINTR || n == -EMSGSIZE)
		return;
	if (n > 0) {
		take_packet(c, buf, (size_t)n, fd);
		return;
	}
	(void)fd_close(fd);
	if (n == 0)
		child_leave(c);
	else
		child_cancel(c);
	c->hooks->ended(c, (int)n);
}

static void timer_expired(struct loop_timer *t)
{
	struct child *c = CONTAINER_OF(t, struct child, timer);

	child_cancel(c);
	c->hooks->late(c);
}

static pid_t fork_watched(struct child *c, int cgroup, const int ends[2], int *ret_socket)
{
	int pidfd;

	/* The last one may have said its word and not been reaped yet: that is the reaper's. */
	process_forget(&c->process);
	int r = loop_add(&c->answers, ends[0], EPOLLIN);
	if (r < 0)
		return r;
	pid_t pid = process_fork(cgroup, &pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		*ret_socket = ends[1];
		return 0;
	}
	r = pid < 0 ? pid : process_watch(&c->process, pid, pidfd);
	if (r < 0)
		loop_remove(&c->answers);
	return r < 0 ? r : pid;
}

pid_t child_fork(struct child *c, int cgroup, const struct child_hooks *hooks,
	uint64_t deadline_usec, int *ret_socket)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	c->hooks = hooks;
	c->answers.ready = answers_ready;
	c->timer.expired = timer_expired;
	pid_t pid = fork_watched(c, cgroup, ends, ret_socket);
	if (pid == 0)
		return 0;
	(void)fd_close(ends[1]);
	if (pid < 0)
		(void)fd_close(ends[0]);
	else
		timer_set(&c->timer, deadline_usec);
	return pid;
}

bool child_is_busy(const struct child *c)
{
	return c->answers.fd >= 0;
}

static int stop_listening(struct child *c)
{
	int fd = c->answers.fd;

	loop_remove(&c->answers);
	timer_cancel(&c->timer);
	return fd;
}

void child_leave(struct child *c)
{
	(void)fd_close(stop_listening(c));
}

void child_cancel(struct child *c)
{
	if (!child_is_busy(c))
		return;
	(void)process_signal(&c->process, SIGKILL);
	/* A file system may lie in a packet that nobody has read. */
	(void)fd_close_apart(stop_listening(c));
}
