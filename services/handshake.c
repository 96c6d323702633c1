/* SPDX-License-Identifier: MIT */
#include "services/handshake.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/message.h"
#include "services/policy.h"
#include "services/vote.h"

/* An answer is a word, or a sentence. */
#define PACKET_MAX 1024
/* A program that reads the descriptor as something else may write what it likes to it, but not for
 * ever. */
#define NONSENSE_MAX 256

bool handshake_is_open(const struct instance *i)
{
	return i->handshake.fd >= 0;
}

void handshake_close(struct instance *i)
{
	loop_remove(&i->handshake.source);
	i->handshake.fd = fd_close(i->handshake.fd);
}

static void gone(struct instance *i)
{
	log_debug("%s: its end of the handshake is closed", i->service->unit->name);
	handshake_close(i);
	vote_lost(i);
}

static void nonsense(struct instance *i, const char *what)
{
	struct handshake *h = &i->handshake;

	if (h->n_nonsense++ == 0)
		log_warning("%s: a packet to $MOLT_FD %s: ignored", i->service->unit->name, what);
	if (h->n_nonsense < NONSENSE_MAX)
		return;
	log_warning("%s: %d packets to $MOLT_FD that nobody asked for: it has no say any more",
		i->service->unit->name, NONSENSE_MAX);
	gone(i);
}

static void heard(struct instance *i, const struct answer *a)
{
	if (a->kind == ANSWER_NONE)
		nonsense(i, "is no answer");
	else if (!vote_heard(i, a) && !policy_refused(i, a))
		nonsense(i, "answers no question");
}

/* With no room for descriptors, the kernel drops those that come along: unix(7), MSG_CTRUNC. */
static pid_t receive(int fd, char *buf, size_t size, ssize_t *ret_length, bool *ret_cut)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {buf, size};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct ucred cred = {0};

	*ret_length = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (*ret_length < 0)
		return 0;
	*ret_cut = m.msg_flags & MSG_TRUNC;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
	return cred.pid;
}

static void packet_ready(struct loop_source *source, uint32_t events)
{
	struct instance *i = CONTAINER_OF(source, struct instance, handshake.source);
	char text[PACKET_MAX];
	struct answer a;
	ssize_t n;
	bool cut = false;
	pid_t sender = receive(source->fd, text, sizeof(text), &n, &cut);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* An empty packet and the end look alike but for the hang-up. */
	if (n < 0 || (n == 0 && (events & (EPOLLHUP | EPOLLRDHUP)))) {
		gone(i);
		return;
	}
	if (cut) {
		nonsense(i, "is too long");
	} else if (sender <= 0 || !instance_owns(i, sender)) {
		nonsense(i, "comes from a process that is not the service's");
	} else {
		answer_parse(text, (size_t)n, &a);
		heard(i, &a);
	}
}

int handshake_adopt(struct instance *i, int fd)
{
	i->handshake.fd = fd;
	i->handshake.source = (struct loop_source){.fd = -1, .ready = packet_ready};
	return fd < 0 ? 0 : loop_add(&i->handshake.source, fd, EPOLLIN | EPOLLRDHUP);
}

int handshake_open(struct instance *i, int *ret_end)
{
	int ends[2], on = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	int r = setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0
			? -errno
			: handshake_adopt(i, ends[0]);
	if (r < 0) {
		(void)fd_close(ends[0]);
		(void)fd_close(ends[1]);
		i->handshake.fd = -1;
		return r;
	}
	*ret_end = ends[1];
	return 0;
}

static int send_packet(struct instance *i, const char *text)
{
	if (i->handshake.fd < 0)
		return -ENOTCONN;
	if (send(i->handshake.fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == EPIPE || errno == ECONNRESET ? -ENOTCONN : -errno;
	log_debug("%s: told \"%s\"", i->service->unit->name, text);
	return 0;
}

int handshake_prepare(struct instance *i, unsigned generation, uint64_t deadline_usec)
{
	char text[96];

	(void)snprintf(text, sizeof(text), "PREPARE generation=%u deadline_usec=%llu", generation,
		(unsigned long long)deadline_usec);
	return send_packet(i, text);
}

static int send_word(struct instance *i, const char *word, unsigned generation)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%s generation=%u", word, generation);
	return send_packet(i, text);
}

int handshake_reexec(struct instance *i, unsigned generation)
{
	return send_word(i, "REEXEC", generation);
}

int handshake_abort(struct instance *i, unsigned generation)
{
	return send_word(i, "ABORT", generation);
}

int handshake_commit(struct instance *i, unsigned generation)
{
	return send_word(i, "COMMIT", generation);
}
