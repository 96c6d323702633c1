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
#include "services/set.h"

/* systemd takes 4 KiB too (sd_notify(3) says nothing); what is longer is cut off by the kernel and
 * dropped. */
#define MESSAGE_MAX 4096
#define FDS_MAX 253 /* SCM_MAX_FD */

static struct loop_source source = {.fd = -1};

static void handle_text(struct service *s, unsigned instance, char *text)
{
	char *state = NULL;

	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		char *value = strchr(line, '=');
		if (!value)
			continue;
		*value++ = '\0';
		service_notify(s, instance, line, value);
	}
}

/*
 * Descriptors that came along are closed: for BARRIER=1 that is the answer (sd_notify_barrier(3)),
 * and no other is of use to us.
 */
static pid_t take_ancillary(struct msghdr *m)
{
	pid_t sender = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred cred;
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			sender = cred.pid;
		} else if (c->cmsg_type == SCM_RIGHTS) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			for (size_t i = 0; i < n; i++) {
				int fd;
				memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
				(void)fd_close(fd);
			}
		}
	}
	return sender;
}

static void handle_message(char *text, size_t length, bool cut, pid_t sender)
{
	unsigned instance;
	struct service *s;

	if (cut || sender <= 0)
		return;
	s = set_of_pid(sender, &instance);
	if (!s) {
		log_debug("notification from process %d, which is of no service: ignored",
			(int)sender);
		return;
	}
	text[length] = '\0';
	handle_text(s, instance, text);
}

static void socket_ready(struct loop_source *src, uint32_t events)
{
	char text[MESSAGE_MAX + 1];
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {text, MESSAGE_MAX};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	(void)events;
	ssize_t n = recvmsg(src->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			log_warning(
				"cannot read from the notification socket: %s", strerror(errno));
		return;
	}
	pid_t sender = take_ancillary(&m);
	handle_message(text, (size_t)n, m.msg_flags & MSG_TRUNC, sender);
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
