/* SPDX-License-Identifier: MIT */
#include "molt-client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* More than any message; what is longer is none. */
#define PACKET_MAX 1024
#define REASON_MAX 200

struct molt_client {
	int fd;
	uint64_t deadline_usec; /* of the PREPARE that is to be answered; 0: none */
};

static int parse_fd(const char *text)
{
	char *end;

	errno = 0;
	long number = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && number >= 3 && number < 1 << 20
		       ? (int)number
		       : -1;
}

/* In a child of the service the number may be anything. */
static int is_handshake(int fd)
{
	int domain, type;
	socklen_t size = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int molt_client_open(struct molt_client **ret)
{
	const char *text = getenv("MOLT_FD");
	struct molt_client *c;

	if (!text)
		return -ENOENT;
	int fd = parse_fd(text);
	if (fd < 0 || !is_handshake(fd))
		return -EBADF;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = fd;
	*ret = c;
	return 0;
}

void molt_client_close(struct molt_client *c)
{
	if (!c)
		return;
	(void)close(c->fd);
	free(c);
}

int molt_client_fd(const struct molt_client *c)
{
	return c->fd;
}

static uint64_t number_after(const char *packet, const char *key)
{
	const char *found = strstr(packet, key);

	return found ? strtoull(found + strlen(key), NULL, 10) : 0;
}

static int parse(struct molt_client *c, const char *packet, struct molt_event *ret)
{
	static const struct {
		const char *word;
		enum molt_event_kind kind;
	} words[] = {{"PREPARE", MOLT_EVENT_PREPARE}, {"REEXEC", MOLT_EVENT_REEXEC},
		{"ABORT", MOLT_EVENT_ABORT}, {"COMMIT", MOLT_EVENT_COMMIT}};
	size_t length = strcspn(packet, " \n");

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) != length || strncmp(packet, words[i].word, length) != 0)
			continue;
		ret->kind = words[i].kind;
		ret->generation = (unsigned)number_after(packet, " generation=");
		ret->deadline_usec = ret->kind == MOLT_EVENT_PREPARE
					     ? number_after(packet, " deadline_usec=")
					     : 0;
		c->deadline_usec = ret->deadline_usec;
		return 1;
	}
	return 0;
}

int molt_client_receive(struct molt_client *c, struct molt_event *ret)
{
	char packet[PACKET_MAX];

	for (;;) {
		ssize_t n = recv(c->fd, packet, sizeof(packet) - 1, MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0)
			return -ECONNRESET;
		if ((size_t)n >= sizeof(packet))
			continue;
		packet[n] = '\0';
		if (parse(c, packet, ret))
			return 1;
	}
}

static int answer(struct molt_client *c, const char *text)
{
	ssize_t n;

	do
		n = send(c->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int molt_client_prepared(struct molt_client *c)
{
	char text[64];

	if (!c->deadline_usec)
		return -EINVAL;
	(void)snprintf(text, sizeof(text), "PREPARED=1 deadline_usec=%llu",
		(unsigned long long)c->deadline_usec);
	return answer(c, text);
}

int molt_client_refuse(struct molt_client *c, const char *reason)
{
	char text[REASON_MAX + 64];
	size_t length = strcspn(reason, "\n");

	if (length > REASON_MAX)
		length = REASON_MAX;
	int n = snprintf(text, sizeof(text), "REFUSED=%.*s", (int)length, reason);
	if (c->deadline_usec)
		(void)snprintf(text + n, sizeof(text) - (size_t)n, "\ndeadline_usec=%llu",
			(unsigned long long)c->deadline_usec);
	return answer(c, text);
}

/* Re-exec */

/* One descriptor whose flag is changed, so that it can be changed back. */
struct kept {
	int fd;
	int flags; /* as they were */
};

static int keep(struct kept *k, int fd)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0)
		return -errno;
	*k = (struct kept){.fd = fd, .flags = flags};
	return 0;
}

static void restore(const struct kept *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)fcntl(list[i].fd, F_SETFD, list[i].flags);
}

static int execute(const struct molt_client *c, const char *path, char *const argv[],
	const int *fds, size_t n, struct kept *list)
{
	int listen = molt_listen_fds(), r = 0;
	size_t kept = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = keep(&list[kept], fds[i]);
		kept += r == 0;
	}
	for (int i = 0; r == 0 && i < listen; i++)
		/* One that the program has closed is not passed on. */
		kept += keep(&list[kept], MOLT_LISTEN_FDS_START + i) == 0;
	if (r == 0 && c) {
		r = keep(&list[kept], c->fd);
		kept += r == 0;
	}
	if (r == 0) {
		(void)execv(path, argv);
		r = -errno;
	}
	restore(list, kept);
	return r;
}

int molt_client_reexec(
	struct molt_client *c, const char *path, char *const argv[], const int *fds, size_t n)
{
	int listen = molt_listen_fds(), r = -ENOMEM;
	char why[REASON_MAX];
	struct kept *list = calloc(n + (listen > 0 ? (size_t)listen : 0) + 1, sizeof(*list));

	if (list)
		r = execute(c, path, argv, fds, n, list);
	free(list);
	(void)snprintf(why, sizeof(why), "cannot execute %s: %s", path, strerror(-r));
	if (c)
		(void)molt_client_refuse(c, why);
	return r;
}
