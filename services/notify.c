/* SPDX-License-Identifier: MIT */
#include "services/notify.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/inbox.h"
#include "services/message.h"
#include "services/set.h"

#define FDS_MAX 253 /* SCM_MAX_FD */

/* Linux 6.5, absent from older headers. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

static struct loop_source source = {.fd = -1};
static uint64_t count;
static int spent[FDS_MAX];
static size_t n_spent;

void (*notify_heard)(const struct letter *l);

/* What came with a message beside its text. */
struct ancillary {
	pid_t sender; /* 0: unknown */
	int pidfd; /* its; -1: none */
	int fds[FDS_MAX];
	size_t n_fds;
};

static void take_fds(const struct cmsghdr *c, struct ancillary *a)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		if (a->n_fds < FDS_MAX)
			a->fds[a->n_fds++] = fd;
		else
			(void)fd_close(fd);
	}
}

static void take_ancillary(struct msghdr *m, struct ancillary *a)
{

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred cred;
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			a->sender = cred.pid;
		} else if (c->cmsg_type == SCM_PIDFD) {
			/* Before Linux 6.16 a negative errno, of one that has ended. */
			memcpy(&a->pidfd, CMSG_DATA(c), sizeof(a->pidfd));
		} else if (c->cmsg_type == SCM_RIGHTS) {
			take_fds(c, a);
		}
	}
}

/* What nobody kept is closed: for BARRIER=1, which comes with one end of a pipe, that is the answer
 * (sd_notify_barrier(3)), and everything that was sent before has been heard by then. */
static void spend(const struct ancillary *a)
{
	notify_close_spent(); /* none, unless the state could not be written */
	for (size_t i = 0; i < a->n_fds; i++)
		if (a->fds[i] >= 0)
			spent[n_spent++] = a->fds[i];
}

bool notify_has_spent(void)
{
	return n_spent > 0;
}

void notify_close_spent(void)
{
	while (n_spent > 0)
		(void)fd_close(spent[--n_spent]);
}

uint64_t notify_count(void)
{
	return count;
}

void notify_set_count(uint64_t value)
{
	count = value;
}

/*
 * In this order: until it is noted it is in the socket, from then on it is in the notes; and out of
 * the socket before anybody looks into it, so that no message is there for ever that PID 1 crashes
 * over. A crash between the two lets it be heard twice.
 */
static void take_message(char *text, struct ancillary *a)
{
	unsigned instance = 0;
	struct service *s = set_of_sender(a->sender, a->pidfd, &instance);
	struct notification n;

	if (s && notify_heard) {
		const struct letter l = {.unit = s->unit->name,
			.instance = instance,
			.sender = a->sender,
			.number = ++count,
			.text = text,
			.fds = a->fds,
			.n_fds = a->n_fds};
		notify_heard(&l);
	}
	(void)recv(source.fd, NULL, 0, MSG_DONTWAIT);
	if (!s) {
		log_debug("notification from process %d, which is of no service: ignored",
			(int)a->sender);
		return;
	}
	notification_parse(text, &n);
	service_notify(s, instance, a->sender, &n, a->fds, a->n_fds);
}

static void socket_ready(struct loop_source *src, uint32_t events)
{
	char text[MESSAGE_MAX + 1];
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)) +
			 CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {text, MESSAGE_MAX};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	(void)events;
	ssize_t n = recvmsg(src->fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			log_warning(
				"cannot read from the notification socket: %s", strerror(errno));
		return;
	}
	struct ancillary a = {.pidfd = -1};
	take_ancillary(&m, &a);
	text[n] = '\0';
	if (m.msg_flags & MSG_TRUNC)
		(void)recv(src->fd, NULL, 0, MSG_DONTWAIT);
	else
		take_message(text, &a);
	(void)fd_close(a.pidfd);
	spend(&a);
}

void notify_ask_for_pidfds(bool on)
{
	int value = on;

	(void)setsockopt(source.fd, SOL_SOCKET, SO_PASSPIDFD, &value, sizeof(value));
}

int notify_adopt(int fd, struct error *e)
{
	source.ready = socket_ready;
	int r = loop_add(&source, fd, EPOLLIN);
	return r < 0 ? error_set(e, r, "cannot watch %s", NOTIFY_SOCKET_PATH) : 0;
}

int notify_open(struct error *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = NOTIFY_SOCKET_PATH};
	int on = 1;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_set(e, errno, "cannot make the socket %s", NOTIFY_SOCKET_PATH);
	(void)unlink(NOTIFY_SOCKET_PATH);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		/* Any user's service may notify; whose word counts is decided by its cgroup. */
		chmod(NOTIFY_SOCKET_PATH, 0666) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return error_set(e, errno, "cannot make the socket %s", NOTIFY_SOCKET_PATH);
	int r = notify_adopt(fd, e);
	if (r == 0)
		(void)fd_steal(&fd);
	return r;
}

int notify_fd(void)
{
	return source.fd;
}
