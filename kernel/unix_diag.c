/* SPDX-License-Identifier: MIT */
#include "kernel/unix_diag.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/util.h"

int unix_diag_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

static int ask(int fd)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req request;
	} q = {
		.header = {.nlmsg_len = sizeof(q),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.request = {.sdiag_family = AF_UNIX,
			.udiag_states = UINT32_MAX,
			.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS},
	};

	return send(fd, &q, sizeof(q), 0) < 0 ? -errno : 0;
}

/* An accepted stream has its listener's name; nobody comes to it by that. */
static bool is_reachable(const struct unix_diag_msg *m)
{
	return m->udiag_type == SOCK_DGRAM || m->udiag_state != TCP_ESTABLISHED;
}

static void copy_name(struct unix_bound *s, const struct rtattr *a)
{
	size_t length = RTA_PAYLOAD(a);

	if (length >= sizeof(s->name))
		length = sizeof(s->name) - 1;
	memcpy(s->name, RTA_DATA(a), length);
	s->name[length] = '\0';
}

int unix_diag_parse(const struct nlmsghdr *message, struct unix_bound *ret)
{
	const struct unix_diag_msg *m = NLMSG_DATA(message);
	struct unix_bound s = {0};
	bool bound = false;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	s.inode = m->udiag_ino;
	s.reachable = is_reachable(m);
	int left = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	for (const struct rtattr *a = (const struct rtattr *)(m + 1); RTA_OK(a, left);
		a = RTA_NEXT(a, left)) {
		if (a->rta_type == UNIX_DIAG_NAME)
			copy_name(&s, a);
		if (a->rta_type != UNIX_DIAG_VFS || RTA_PAYLOAD(a) < sizeof(struct unix_diag_vfs))
			continue;
		const struct unix_diag_vfs *file = RTA_DATA(a);
		s.dev = file->udiag_vfs_dev;
		s.ino = file->udiag_vfs_ino;
		bound = true;
	}
	if (bound)
		*ret = s;
	return bound;
}

/* 1: that was the last. */
static int take_message(const struct nlmsghdr *m,
	int (*visit)(const struct unix_bound *socket, void *userdata), void *userdata)
{
	struct unix_bound s;

	if (m->nlmsg_type == NLMSG_DONE)
		return 1;
	if (m->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *error = NLMSG_DATA(m);
		return m->nlmsg_len < NLMSG_LENGTH(sizeof(*error)) || error->error >= 0
			       ? -EBADMSG
			       : error->error;
	}
	if (m->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return 0;
	int r = unix_diag_parse(m, &s);
	return r == 1 ? visit(&s, userdata) : r;
}

int unix_diag_bound(
	int fd, int (*visit)(const struct unix_bound *socket, void *userdata), void *userdata)
{
	static alignas(struct nlmsghdr) char buf[32768];
	int r = ask(fd);

	while (r == 0) {
		/* The kernel answers within these calls: there is nothing to wait for. */
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		unsigned left = (unsigned)n;
		for (const struct nlmsghdr *m = (const struct nlmsghdr *)buf;
			r == 0 && NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			bool last = m->nlmsg_type == NLMSG_DONE;
			r = take_message(m, visit, userdata);
			if (last)
				return 0;
		}
	}
	return r;
}
