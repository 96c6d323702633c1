/* SPDX-License-Identifier: MIT */
#include "upgrade/answer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/util.h"

union one_fd {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int answer_packet(int socket, const void *data, size_t length, int fd)
{
	union one_fd control;
	struct iovec iov = {(void *)data, length};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(socket, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void send_packet(int socket, const char *text, size_t length, int fd)
{
	if (answer_packet(socket, text, length, fd) < 0)
		_exit(1);
}

void answer_send(int socket, struct record_writer *w)
{
	if (w->error)
		_exit(1); /* PID 1 takes a child that ends without a last word for a failure */
	send_packet(socket, w->text, w->length, -1);
	record_writer_done(w);
}

static unsigned n_blockers;

unsigned answer_blockers(void)
{
	return n_blockers;
}

void answer_text(int socket, const char *kind, const char *text)
{
	struct record_writer w = {0};

	if (strcmp(kind, "blocker") == 0)
		n_blockers++;
	record_begin(&w, kind, "");
	record_text(&w, "text", text);
	record_end(&w);
	answer_send(socket, &w);
}

void answer_unfit(int socket, const char *why)
{
	answer_text(socket, "unfit", why);
}

void answer_same(int socket, const char *text)
{
	answer_text(socket, "same", text);
}

void answer_graft(int socket, const char *path, int mount)
{
	struct record_writer w = {0};

	record_begin(&w, "graft", path);
	record_end(&w);
	if (w.error)
		_exit(1);
	send_packet(socket, w.text, w.length, mount);
	record_writer_done(&w);
}

void answer_image(int socket, int root, const char *leave)
{
	struct record_writer w = {0};

	record_begin(&w, "image", "");
	record_text(&w, "leave", *leave ? leave : NULL);
	record_end(&w);
	if (w.error)
		_exit(1);
	send_packet(socket, w.text, w.length, root);
}

ssize_t answer_receive(int socket, char *buf, size_t size, int *ret_fd)
{
	union one_fd control;
	struct iovec iov = {buf, size};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	*ret_fd = -1;
	ssize_t n = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	if (m.msg_flags & MSG_TRUNC) {
		*ret_fd = fd_close(*ret_fd);
		return -EMSGSIZE;
	}
	/* There was no number left for the descriptor. */
	return m.msg_flags & MSG_CTRUNC ? -EMFILE : n;
}
