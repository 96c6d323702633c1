/* SPDX-License-Identifier: MIT */
#include "molt-client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS_MAX 253 /* unix(7): SCM_MAX_FD */

/* Sending */

static int address_of(const char *path, struct sockaddr_un *address, socklen_t *length)
{
	size_t n = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || n < 2 || n >= sizeof(address->sun_path))
		return -EINVAL;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, n);
	if (path[0] == '@')
		address->sun_path[0] = '\0'; /* the abstract name space */
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	return 0;
}

static void attach(struct msghdr *m, void *buf, size_t size, const int *fds, size_t n)
{
	memset(buf, 0, size);
	m->msg_control = buf;
	m->msg_controllen = CMSG_SPACE(sizeof(int) * n);
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * n);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
}

static int send_to(const char *path, const char *state, const int *fds, size_t n)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct sockaddr_un address;
	socklen_t length;
	struct iovec iov = {(void *)(uintptr_t)state, strlen(state)};
	int r = address_of(path, &address, &length);

	if (r < 0)
		return r;
	struct msghdr m = {
		.msg_name = &address, .msg_namelen = length, .msg_iov = &iov, .msg_iovlen = 1};
	if (fds && n > 0)
		attach(&m, control.buf, sizeof(control.buf), fds, n);
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	r = sendmsg(s, &m, MSG_NOSIGNAL) < 0 ? -errno : 1;
	(void)close(s);
	return r;
}

int molt_notify_with_fds(const char *state, const int *fds, size_t n)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (n > FDS_MAX)
		return -E2BIG;
	return path ? send_to(path, state, fds, n) : 0;
}

int molt_notify(const char *state)
{
	return molt_notify_with_fds(state, NULL, 0);
}

/* Storing */

static int is_name(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= 255 && !strpbrk(name, ":\n");
}

int molt_store_fd(const char *name, int fd)
{
	char text[320];

	if (!is_name(name))
		return -EINVAL;
	(void)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	return molt_notify_with_fds(text, &fd, 1);
}

int molt_unstore_fd(const char *name)
{
	char text[320];

	if (!is_name(name))
		return -EINVAL;
	(void)snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return molt_notify(text);
}

/* Being given */

static int number_in(const char *variable, unsigned long long *ret)
{
	const char *text = getenv(variable);
	char *end;

	if (!text)
		return -ENOENT;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno || end == text || *end ? -EINVAL : 0;
}

/* Whether a variable of that kind is meant for this process; without a PID it is. */
static int is_for_us(const char *variable)
{
	unsigned long long pid;
	int r = number_in(variable, &pid);

	return r == -ENOENT || (r == 0 && pid == (unsigned long long)getpid());
}

int molt_listen_fds(void)
{
	unsigned long long count;
	int r = number_in("LISTEN_FDS", &count);

	if (r == -ENOENT || !getenv("LISTEN_PID") || !is_for_us("LISTEN_PID"))
		return 0;
	if (r < 0 || count > 1 << 20)
		return -EINVAL;
	for (int i = 0; i < (int)count; i++) {
		int flags = fcntl(MOLT_LISTEN_FDS_START + i, F_GETFD);
		/* One that was closed since is still counted: the others keep their numbers. */
		if (flags >= 0)
			(void)fcntl(MOLT_LISTEN_FDS_START + i, F_SETFD, flags | FD_CLOEXEC);
	}
	return (int)count;
}

int molt_listen_fd_name(unsigned index, char *buf, size_t size)
{
	const char *name = getenv("LISTEN_FDNAMES");
	int count = molt_listen_fds();

	if (count < 0 || index >= (unsigned)count || !name)
		return -ENOENT;
	for (; index > 0; index--) {
		name = strchr(name, ':');
		if (!name)
			return -ENOENT;
		name++;
	}
	size_t length = strcspn(name, ":");
	if (length >= size)
		return -ENAMETOOLONG;
	memcpy(buf, name, length);
	buf[length] = '\0';
	return 0;
}

int molt_listen_fd(const char *name)
{
	char buf[256];
	int count = molt_listen_fds();

	for (int i = 0; i < count; i++)
		if (molt_listen_fd_name((unsigned)i, buf, sizeof(buf)) == 0 &&
			strcmp(buf, name) == 0)
			return MOLT_LISTEN_FDS_START + i;
	return -ENOENT;
}

uint64_t molt_watchdog_usec(void)
{
	unsigned long long usec;

	return number_in("WATCHDOG_USEC", &usec) == 0 && is_for_us("WATCHDOG_PID") ? usec : 0;
}
