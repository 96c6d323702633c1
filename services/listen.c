/* SPDX-License-Identifier: MIT */
#include "services/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
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

static int inet_address(const struct listen_config *c, struct address *a)
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

/* A daemon expects them blocking unless its file says NonBlocking=; PID 1 never reads of them. */
static int new_socket(const struct listen_config *c, bool non_blocking, struct address *a)
{
	static const int types[] = {[LISTEN_STREAM] = SOCK_STREAM,
		[LISTEN_DATAGRAM] = SOCK_DGRAM,
		[LISTEN_SEQPACKET] = SOCK_SEQPACKET};
	int type = types[c->type] | SOCK_CLOEXEC | (non_blocking ? SOCK_NONBLOCK : 0);
	int fd = socket(a->sa.any.sa_family, type, 0);

	if (fd < 0 && errno == EAFNOSUPPORT && !c->host && c->family == LISTEN_INET) {
		/* A kernel without IPv6: a bare port still means everybody. */
		a->sa.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(c->port)};
		a->length = sizeof(a->sa.v4);
		fd = socket(AF_INET, type, 0);
	}
	return fd < 0 ? -errno : fd;
}

static int set_options(
	int fd, const struct listen_config *c, const struct address *a, bool pass_credentials)
{
	int on = 1, off = 0;

	if (c->family == LISTEN_INET && c->type == LISTEN_STREAM &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (a->sa.any.sa_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, c->host ? &on : &off, sizeof(on)) < 0)
		return -errno;
	if (pass_credentials && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

/* The directories above a socket: nobody else may make them before its service runs. */
static int make_parents(const char *path)
{
	char part[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST && errno != EROFS)
			return -errno;
	}
	return 0;
}

/* Whoever binds it makes the file, with the mode that it is to have from the first moment on. */
static int bind_file(int fd, const struct listen_config *c, const struct address *a, mode_t mode)
{
	mode_t before;
	int r = make_parents(c->host);

	if (r < 0)
		return r;
	/* A socket file left behind by an unclean end would refuse the bind: it serves nobody any
	 * more. */
	(void)unlink(c->host);
	before = umask(~mode & 0777);
	r = bind(fd, &a->sa.any, a->length) < 0 ? -errno : 0;
	(void)umask(before);
	return r;
}

/* A file that somebody else put there stays. */
static int make_links(char *const *links, const char *path)
{
	struct stat st;

	for (; links && *links; links++) {
		if (lstat(*links, &st) == 0 && S_ISLNK(st.st_mode))
			(void)unlink(*links);
		int r = make_parents(*links);
		if (r == 0 && symlink(path, *links) < 0)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

static int bind_address(int fd, const struct listen_config *c, const struct address *a,
	const struct socket_options *o)
{
	int r;

	if (c->family != LISTEN_UNIX || c->host[0] == '@')
		return bind(fd, &a->sa.any, a->length) < 0 ? -errno : 0;
	r = bind_file(fd, c, a, o->mode);
	return r < 0 ? r : make_links(o->links, c->host);
}

static int open_socket(const struct unit *u, const struct listen_config *c, int *ret_fd)
{
	const struct socket_options *o = unit_socket_options(u, c);
	struct address a = {0};
	int r = c->family == LISTEN_INET ? inet_address(c, &a) : unix_address(c, &a);

	if (r < 0)
		return r;
	CLEANUP_FD int fd = new_socket(c, u->non_blocking, &a);
	if (fd < 0)
		return fd;
	if ((r = set_options(fd, c, &a, o->pass_credentials)) < 0 ||
		(r = bind_address(fd, c, &a, o)) < 0)
		return r;
	if (c->type != LISTEN_DATAGRAM && listen(fd, SOMAXCONN) < 0)
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

/* The path of its file, or NULL: see struct listen_config on addresses. */
static const char *file_of(const struct listen_socket *l)
{
	const char *path = l->address;

	if (starts_with(path, "datagram:"))
		path += strlen("datagram:");
	else if (starts_with(path, "seqpacket:"))
		path += strlen("seqpacket:");
	return path[0] == '/' ? path : NULL;
}

/* Which file is ours, so that nobody else's is removed later. */
static void note_file(struct listen_socket *l)
{
	const char *path = file_of(l);
	struct stat st;

	if (path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
}

static void remove_file(const struct listen_socket *l)
{
	const char *path = file_of(l);
	struct stat st;

	if (path && l->ino && lstat(path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		(void)unlink(path);
}

/* With `rolled_only`, of those no more than the other image names. */
static void close_unnamed(struct service *s, bool rolled_only)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_listen; i++) {
		if (unit_find_listen(s->unit, s->listen[i].address) ||
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
		if (i >= n_before || !unit_find_listen(s->unit, s->listen[i].address))
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
		int r = open_socket(s->unit, c, &fd);
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
