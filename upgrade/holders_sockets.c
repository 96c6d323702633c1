/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets bound on an image. The kernel tells the file system and the inode of each
 * (unix_diag.h), not the mount; so what it was bound as is looked up the way its holder would.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/proc_fdinfo.h"
#include "kernel/unix_diag.h"
#include "kernel/util.h"
#include "upgrade/holders_internal.h"

#define SOCKETS_MAX 65536
#define NETWORKS_MAX 256

struct bound {
	struct unix_bound socket;
	unsigned image; /* the one of that file system; the name tells whether it is so */
	bool found; /* its holder */
	bool of_init;
};

struct bound_sockets {
	const struct holders_image *images;
	unsigned n;
	uint32_t *devs; /* of the images' file systems, as the kernel counts them */
	struct bound *list;
	size_t count, capacity;
	ino_t networks[NETWORKS_MAX]; /* looked into */
	size_t n_networks;
};

/* Reading */

static int add_bound(const struct unix_bound *socket, void *userdata)
{
	struct bound_sockets *b = userdata;
	unsigned image = 0;

	while (image < b->n && b->devs[image] != socket->dev)
		image++;
	if (image == b->n || b->count == SOCKETS_MAX)
		return 0;
	if (b->count == b->capacity) {
		size_t capacity = b->capacity ? b->capacity * 2 : 64;
		struct bound *grown = reallocarray(b->list, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		b->list = grown;
		b->capacity = capacity;
	}
	b->list[b->count++] = (struct bound){.socket = *socket, .image = image};
	return 0;
}

static int read_network(struct bound_sockets *b)
{
	CLEANUP_FD int fd = unix_diag_open();
	int r = fd < 0 ? fd : unix_diag_bound(fd, add_bound, b);

	/* A kernel without it: then nobody can tell. */
	return r == -ENOENT || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP ? 0 : r;
}

static bool was_visited(struct bound_sockets *b, ino_t network)
{
	for (size_t i = 0; i < b->n_networks; i++)
		if (b->networks[i] == network)
			return true;
	if (b->n_networks < NETWORKS_MAX)
		b->networks[b->n_networks++] = network;
	return b->n_networks == NETWORKS_MAX;
}

static int read_network_of(pid_t pid, void *userdata)
{
	struct bound_sockets *b = userdata;
	char path[48];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	CLEANUP_FD int network = open(path, O_RDONLY | O_CLOEXEC);
	if (network < 0 || fstat(network, &st) < 0 || was_visited(b, st.st_ino))
		return 0;
	/* Of a user who may not let us in, nothing is known. */
	return setns(network, CLONE_NEWNET) < 0 ? 0 : read_network(b);
}

static int compare(const void *a, const void *b)
{
	uint32_t left = ((const struct bound *)a)->socket.inode;
	uint32_t right = ((const struct bound *)b)->socket.inode;

	return (left > right) - (left < right);
}

static int read_all(struct bound_sockets *b, int tree)
{
	struct stat st;
	CLEANUP_FD int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (own < 0 || fstat(own, &st) < 0)
		return -errno;
	(void)was_visited(b, st.st_ino);
	int r = read_network(b);
	if (r == 0)
		r = cgroup_each_process(tree, read_network_of, b);
	if (setns(own, CLONE_NEWNET) < 0 && r == 0 && b->n_networks > 1)
		r = -errno;
	if (b->count > 0)
		qsort(b->list, b->count, sizeof(*b->list), compare);
	return r;
}

static int know_images(struct bound_sockets *b, const struct holders_image *images, unsigned n)
{
	struct stat st;

	b->images = images;
	b->n = n;
	b->devs = calloc(n ? n : 1, sizeof(*b->devs));
	if (!b->devs)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++)
		if (images[i].root >= 0 && kernel_dev(images[i].root, &b->devs[i]) < 0 &&
			fstat(images[i].root, &st) == 0)
			b->devs[i] = (uint32_t)(major(st.st_dev) << 20 | minor(st.st_dev));
	return 0;
}

static struct bound *find(const struct bound_sockets *b, uint64_t inode)
{
	struct bound key = {.socket.inode = (uint32_t)inode};

	return b->count > 0 ? bsearch(&key, b->list, b->count, sizeof(*b->list), compare) : NULL;
}

static int mark_of_init(const struct proc_fd *fd, void *userdata)
{
	struct bound *k = S_ISSOCK(fd->mode) ? find(userdata, fd->ino) : NULL;

	if (k)
		k->of_init = true;
	return 0;
}

int bound_sockets_read(struct bound_sockets **ret, int tree, const struct holders_image *images,
	unsigned n, pid_t init, struct error *e)
{
	struct bound_sockets *b = calloc(1, sizeof(*b));
	int r = b ? know_images(b, images, n) : -ENOMEM;

	if (r == 0)
		r = read_all(b, tree);
	if (r == 0)
		r = proc_fds(init, mark_of_init, b);
	if (r < 0) {
		bound_sockets_free(b);
		return error_set(e, r, "cannot look for unix sockets that are bound on the image");
	}
	*ret = b;
	return 0;
}

void bound_sockets_free(struct bound_sockets *b)
{
	if (!b)
		return;
	free(b->list);
	free(b->devs);
	free(b);
}

/* Telling whether one is on the image */

enum place { PLACE_IMAGE, PLACE_ELSEWHERE, PLACE_UNKNOWN };

static enum place look_up(
	const struct scan *s, const struct bound *k, const char *path, char real[PATH_MAX])
{
	unsigned image;
	struct statx st;
	char link[48];
	CLEANUP_FD int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0 ||
		!S_ISSOCK(st.stx_mode) || (uint32_t)st.stx_ino != k->socket.ino)
		return PLACE_UNKNOWN;
	if (!scan_image(s, st.stx_mnt_id, &image))
		return PLACE_ELSEWHERE;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, real, PATH_MAX - 1);
	real[n < 0 ? 0 : n] = '\0';
	return PLACE_IMAGE;
}

/* As its holder would find it, and as we do: it may have changed its root since. */
static enum place place_of(const struct scan *s, const struct bound *k, char real[PATH_MAX])
{
	const char *name = k->socket.name;
	char path[192];
	enum place place;

	(void)snprintf(real, PATH_MAX, "%s", name);
	if (s->pid > 0) {
		(void)snprintf(path, sizeof(path), "/proc/%d/%s/%s", (int)s->pid,
			name[0] == '/' ? "root" : "cwd", name);
		place = look_up(s, k, path, real);
		if (place != PLACE_UNKNOWN)
			return place;
	}
	return name[0] == '/' ? look_up(s, k, name, real) : PLACE_UNKNOWN;
}

static int add(struct bound_sockets *b, struct bound *k, struct scan *s, int fd)
{
	struct holder h = {.what = HELD_SOCKET,
		.fd = fd,
		.image = k->image,
		.reachable = k->socket.reachable,
		.of_init = k->of_init};
	char path[PATH_MAX];
	enum place place = place_of(s, k, path);

	k->found = true;
	if (place == PLACE_ELSEWHERE)
		return 0;
	/* An absolute name that leads nowhere: its file was removed. A relative one was meant from
	 * a directory that its holder may have left; and names on an older image lead nowhere. */
	if (place == PLACE_UNKNOWN && path[0] == '/' && b->images[k->image].is_root)
		h.deleted = true;
	if (fd >= 0 && proc_fd_info(s->tid, fd, &h.offset, &h.flags) < 0)
		h.flags = 0;
	return scan_add(s, &h, path, NULL);
}

int bound_sockets_add(struct bound_sockets *b, struct scan *s, uint64_t inode, int fd)
{
	struct bound *k = find(b, inode);

	return k ? add(b, k, s, fd) : 0;
}

/* Those that nobody of the tree has */

static int is_socket(const struct proc_fd *fd, void *userdata)
{
	return S_ISSOCK(fd->mode) && (uint32_t)fd->ino == *(const uint32_t *)userdata;
}

/* Processes outside of the tree are few, and so are these sockets. */
static pid_t find_outsider(uint32_t inode)
{
	struct pid_array list = {0};
	pid_t found = 0;

	if (proc_processes(&list) < 0)
		list.count = 0;
	for (size_t i = 0; i < list.count && !found; i++)
		if (proc_fds(list.pids[i], is_socket, &inode) == 1)
			found = list.pids[i];
	pid_array_free(&list);
	return found;
}

int bound_sockets_add_rest(struct bound_sockets *b, struct scan *s, pid_t init)
{
	int r = 0;

	s->cgroup = "";
	for (size_t i = 0; r == 0 && i < b->count; i++) {
		struct bound *k = &b->list[i];
		if (k->found)
			continue;
		s->pid = s->tid = k->of_init ? init : find_outsider(k->socket.inode);
		r = add(b, k, s, -1);
	}
	return r;
}
