/* SPDX-License-Identifier: MIT */
#include "services/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/util.h"
#include "services/catalog.h"

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un path;
		struct sockaddr_storage storage;
	} sa;
	socklen_t length;
};

static int tcp_address(const struct listen_config *c, struct address *a)
{
	if (!c->host) {
		a->sa.v6 =
			(struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(c->port)};
		a->length = sizeof(a->sa.v6);
	} else if (inet_pton(AF_INET, c->host, &a->sa.v4.sin_addr) == 1) {
		a->sa.v4.sin_family = AF_INET;
		a->sa.v4.sin_port = htons(c->port);
		a->length = sizeof(a->sa.v4);
	} else if (inet_pton(AF_INET6, c->host, &a->sa.v6.sin6_addr) == 1) {
		a->sa.v6.sin6_family = AF_INET6;
		a->sa.v6.sin6_port = htons(c->port);
		a->length = sizeof(a->sa.v6);
	} else {
		return -EINVAL;
	}
	return 0;
}

static int unix_address(const struct listen_config *c, struct address *a)
{
	size_t length = strlen(c->host);

	if (length >= sizeof(a->sa.path.sun_path))
		return -ENAMETOOLONG;
	a->sa.path.sun_family = AF_UNIX;
	memcpy(a->sa.path.sun_path, c->host, length);
	a->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (c->host[0] == '@')
		a->sa.path.sun_path[0] = '\0'; /* unix(7): the abstract name space */
	else
		a->length++;
	return 0;
}

static int open_socket(const struct listen_config *c, int *ret_fd)
{
	struct address a = {0};
	int on = 1, off = 0;
	int r = c->family == LISTEN_TCP ? tcp_address(c, &a) : unix_address(c, &a);

	if (r < 0)
		return r;
	CLEANUP_FD int fd =
		socket(a.sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 && errno == EAFNOSUPPORT && !c->host && c->family == LISTEN_TCP) {
		/* A kernel without IPv6: a bare port still means everybody. */
		a.sa.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(c->port)};
		a.length = sizeof(a.sa.v4);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (fd < 0)
		return -errno;
	if (c->family == LISTEN_TCP &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (a.sa.any.sa_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, c->host ? &on : &off, sizeof(on)) < 0)
		return -errno;
	/* A socket file left behind by an unclean end would refuse the bind: it serves nobody any
	 * more. */
	if (c->family == LISTEN_UNIX && c->host[0] != '@')
		(void)unlink(c->host);
	if (bind(fd, &a.sa.any, a.length) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	*ret_fd = fd_steal(&fd);
	return 0;
}

static struct listen_socket *find(struct service *s, const char *address)
{
	for (size_t i = 0; i < s->n_listen; i++)
		if (strcmp(s->listen[i].address, address) == 0)
			return &s->listen[i];
	return NULL;
}

bool listen_is_named(const struct unit *u, const char *address)
{
	for (size_t i = 0; i < u->n_listen; i++)
		if (strcmp(u->listen[i].address, address) == 0)
			return true;
	return false;
}

static bool has_file(const struct listen_socket *l)
{
	return l->address[0] == '/';
}

/* Which file is ours, so that nobody else's is removed later. */
static void note_file(struct listen_socket *l)
{
	struct stat st;

	if (has_file(l) && lstat(l->address, &st) == 0 && S_ISSOCK(st.st_mode)) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
}

static void remove_file(const struct listen_socket *l)
{
	struct stat st;

	if (has_file(l) && l->ino && lstat(l->address, &st) == 0 && st.st_dev == l->dev &&
		st.st_ino == l->ino)
		(void)unlink(l->address);
}

/* With `rolled_only`, of those no more than the other image names. */
static void close_unnamed(struct service *s, bool rolled_only)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_listen; i++) {
		if (listen_is_named(s->unit, s->listen[i].address) ||
			(rolled_only && !s->listen[i].rolled)) {
			s->listen[kept++] = s->listen[i];
		} else {
			remove_file(&s->listen[i]);
			(void)fd_close(s->listen[i].fd);
			free(s->listen[i].address);
		}
	}
	s->n_listen = kept;
}

int listen_adopt(struct service *s, const char *address, int fd)
{
	struct listen_socket *grown = reallocarray(s->listen, s->n_listen + 1, sizeof(*grown));
	char *copy = strdup(address);

	if (grown)
		s->listen = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	s->listen[s->n_listen] = (struct listen_socket){.address = copy, .fd = fd};
	note_file(&s->listen[s->n_listen]);
	s->n_listen++;
	return 0;
}

static void mark_rolled(struct service *s, size_t n_before)
{
	for (size_t i = 0; i < s->n_listen; i++)
		if (i >= n_before || !listen_is_named(s->unit, s->listen[i].address))
			s->listen[i].rolled = true;
}

int listen_open(struct service *s, struct error *e)
{
	bool rolling = s->roll.state == ROLL_SETTLING || s->roll.state == ROLL_ASKED;
	size_t n_before;

	if (!rolling)
		close_unnamed(s, false);
	n_before = s->n_listen;
	for (size_t i = 0; i < s->unit->n_listen; i++) {
		const struct listen_config *c = &s->unit->listen[i];
		int fd = -1;
		if (find(s, c->address))
			continue;
		int r = open_socket(c, &fd);
		if (r == 0 && (r = listen_adopt(s, c->address, fd)) < 0)
			(void)fd_close(fd);
		if (r < 0)
			return error_set(e, r, "cannot listen on %s", c->address);
	}
	if (rolling)
		mark_rolled(s, n_before);
	return 0;
}

void listen_settle(void)
{
	for (struct service *s = catalog_first(); s; s = s->next) {
		close_unnamed(s, true);
		for (size_t i = 0; i < s->n_listen; i++)
			s->listen[i].rolled = false;
	}
}

void listen_close(struct service *s)
{
	for (size_t i = 0; i < s->n_listen; i++) {
		(void)fd_close(s->listen[i].fd);
		free(s->listen[i].address);
	}
	free(s->listen);
	s->listen = NULL;
	s->n_listen = 0;
}
