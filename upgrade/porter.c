/* SPDX-License-Identifier: MIT */
#include "upgrade/porter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/porter_work.h"

#define ANSWER_USEC (500 * USEC_PER_MSEC)
#define DEATH_USEC (200 * USEC_PER_MSEC)
#define TRIES_MAX 3

struct porter {
	const struct namespaces *n;
	int socket; /* -1: there is no child */
	int pidfd;
};

/* What the child says: how an order has ended; or that it has opened a mount, whose descriptor
 * comes along, so that another child can do without it. */
struct outcome {
	int32_t result;
	bool uncovered;
	uint64_t root, mount; /* the old root's mount id, index of the mount */
	char text[400];
};

/* The child */

static int to_pid1 = -1;

static void tell_uncovered(const struct pivot *p, size_t mount)
{
	struct outcome o = {.uncovered = true, .root = p->old_id, .mount = mount};

	if (answer_packet(to_pid1, &o, sizeof(o), p->mounts[mount].from) < 0)
		_exit(1);
}

static void __attribute__((noreturn)) serve(const struct namespaces *n, int socket)
{
	char order;

	to_pid1 = socket;
	for (size_t i = 0; i < n->count; i++)
		n->list[i].pivot.uncovered = tell_uncovered;
	porter_work_prepare(n);
	while (recv(socket, &order, 1, 0) == 1) {
		struct outcome o = {0};
		struct error e = {0};
		o.result = porter_work(n, (enum porter_order)order, &e);
		if (o.result < 0)
			(void)snprintf(o.text, sizeof(o.text), "%s", e.text);
		if (send(socket, &o, sizeof(o), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* PID 1 */

static int start_child(struct porter *p, struct error *e)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(e, errno, "cannot start the child that pivots mount namespaces");
	pid_t pid = process_fork(-1, &p->pidfd);
	if (pid == 0) {
		(void)close(ends[0]);
		serve(p->n, ends[1]);
	}
	(void)fd_close(ends[1]);
	if (pid < 0) {
		(void)fd_close(ends[0]);
		return error_set(e, pid, "cannot start the child that pivots mount namespaces%s",
			process_fork_hint(pid));
	}
	p->socket = ends[0];
	return 0;
}

/* Takes over fd. */
static void take_uncovered(struct porter *p, const struct outcome *o, int fd)
{
	for (size_t i = 0; i < p->n->count; i++) {
		struct pivot *pivot = &p->n->list[i].pivot;
		if (pivot->old_id != o->root || o->mount >= pivot->n_mounts)
			continue;
		(void)fd_close(pivot->mounts[o->mount].from);
		pivot->mounts[o->mount].from = fd_steal(&fd);
	}
	(void)fd_close(fd);
}

/* 1: the outcome of an order; 0: there is nothing to read yet; -EPIPE: the child has ended. */
static int receive(struct porter *p, struct outcome *o)
{
	for (;;) {
		int fd;
		ssize_t length = answer_receive(p->socket, (char *)o, sizeof(*o), &fd);
		if (length == -EAGAIN || length == -EINTR)
			return 0;
		if (length == (ssize_t)sizeof(*o) && o->uncovered) {
			take_uncovered(p, o, fd);
			continue;
		}
		(void)fd_close(fd);
		o->text[sizeof(o->text) - 1] = '\0';
		return length == (ssize_t)sizeof(*o) ? 1 : -EPIPE;
	}
}

/* Until it is dead it may be in the middle of a step. */
static void end_child(struct porter *p)
{
	struct pollfd dead = {.fd = p->pidfd, .events = POLLIN};
	struct outcome o;

	if (p->socket < 0)
		return;
	(void)syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
	if (poll(&dead, 1, DEATH_USEC / USEC_PER_MSEC) != 1)
		log_error("the child that pivots mount namespaces cannot be killed");
	while (receive(p, &o) > 0)
		; /* what it had opened is of use to the next one */
	p->pidfd = fd_close(p->pidfd);
	p->socket = fd_close(p->socket);
}

static int order(struct porter *p, enum porter_order what, struct error *e)
{
	char byte = (char)what;
	int r = p->socket < 0 ? start_child(p, e) : 0;

	if (r == 0 && send(p->socket, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		r = error_set(e, errno, "the child that pivots mount namespaces does not listen");
		end_child(p);
	}
	return r;
}

/* -EPIPE: there is no child any more that could have said it. */
static int await(struct porter *p, uint64_t deadline_usec, struct error *e)
{
	struct outcome o;

	for (;;) {
		uint64_t now = clock_usec();
		struct pollfd ready = {.fd = p->socket, .events = POLLIN};
		if (now >= deadline_usec)
			break;
		if (poll(&ready, 1, (int)((deadline_usec - now) / USEC_PER_MSEC) + 1) < 0)
			continue;
		int r = receive(p, &o);
		if (r > 0)
			return o.result < 0 ? error_say(e, -o.result, "%s", o.text) : 0;
		if (r == 0)
			continue;
		end_child(p);
		return error_say(
			e, EPIPE, "the child that pivots mount namespaces was killed at its work");
	}
	end_child(p);
	return error_say(e, EPIPE, "the child that pivots mount namespaces did not answer in time");
}

int porter_begin(struct porter *p, struct error *e)
{
	return p ? order(p, PORTER_PIVOT, e) : 0;
}

int porter_wait(struct porter *p, uint64_t deadline_usec, struct error *e)
{
	struct error undo;
	int r = p ? await(p, deadline_usec, e) : 0;

	/* It takes back itself what it can tell of. */
	if (r == -EPIPE && porter_undo(p, &undo) < 0)
		log_error("the mount namespaces could not be taken back: %s", undo.text);
	return r;
}

/*
 * What has to be done, since there is no way back from it: where it failed too, for what is done
 * already is known by the journals and not done again.
 */
static int insist(struct porter *p, enum porter_order what, struct error *e)
{
	int r = p ? -EPIPE : 0;

	for (unsigned tries = 0; r < 0 && tries < TRIES_MAX; tries++) {
		r = order(p, what, e);
		if (r == 0)
			r = await(p, deadline_in(ANSWER_USEC), e);
	}
	return r;
}

int porter_undo(struct porter *p, struct error *e)
{
	return insist(p, PORTER_UNDO, e);
}

int porter_settle(struct porter *p, struct error *e)
{
	return insist(p, PORTER_SETTLE, e);
}

int porter_start(struct porter **ret, const struct namespaces *n, struct error *e)
{
	struct porter *p = calloc(1, sizeof(*p));

	if (!p)
		return error_set(e, ENOMEM, "cannot start the child that pivots mount namespaces");
	*p = (struct porter){.n = n, .socket = -1, .pidfd = -1};
	int r = start_child(p, e);
	if (r < 0)
		free(p);
	else
		*ret = p;
	return r;
}

void porter_stop(struct porter *p)
{
	if (!p)
		return;
	end_child(p);
	free(p);
}
