/* SPDX-License-Identifier: MIT */
#include "upgrade/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/mounts.h"
#include "kernel/proc.h"
#include "kernel/proc_fdinfo.h"
#include "kernel/util.h"
#include "upgrade/plan.h"

/* More than that on the image's file system, and nobody can look at them in a blackout. */
#define SOCKETS_MAX 65536

/* Asking */

static int take(const struct unix_bound *socket, void *userdata)
{
	struct listeners *l = userdata;

	if (socket->dev != l->dev || !socket->reachable)
		return 0;
	if (l->count == SOCKETS_MAX)
		return -E2BIG;
	if (l->count == l->capacity) {
		size_t capacity = l->capacity ? l->capacity * 2 : 64;
		struct bound_socket *grown = reallocarray(l->list, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->list = grown;
		l->capacity = capacity;
	}
	l->list[l->count++] = (struct bound_socket){.socket = *socket};
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint32_t left = ((const struct bound_socket *)a)->socket.inode;
	uint32_t right = ((const struct bound_socket *)b)->socket.inode;

	return (left > right) - (left < right);
}

static int ask_all(struct listeners *l)
{
	int r = 0;

	l->count = 0;
	for (size_t i = 0; r == 0 && i < l->networks.count; i++)
		if (l->networks.list[i].diag >= 0)
			r = unix_diag_bound(l->networks.list[i].diag, take, l);
	if (l->count > 0)
		qsort(l->list, l->count, sizeof(*l->list), compare);
	return r;
}

static struct bound_socket *by_inode(const struct listeners *l, uint64_t inode)
{
	struct bound_socket key = {.socket.inode = (uint32_t)inode};

	return l->count > 0 ? bsearch(&key, l->list, l->count, sizeof(key), compare) : NULL;
}

static int mark_of_init(const struct proc_fd *fd, void *userdata)
{
	struct bound_socket *s = S_ISSOCK(fd->mode) ? by_inode(userdata, fd->ino) : NULL;

	if (s)
		s->of_init = true;
	return 0;
}

int listeners_read(struct listeners *l, struct error *e)
{
	int r = l->off ? 0 : ask_all(l);

	if (r == 0 && !l->off && l->count > 0)
		r = proc_fds(getpid(), mark_of_init, l);
	return r < 0 ? error_set(e, r, "cannot look for unix sockets on the image") : 0;
}

static bool is_read_only(int root)
{
	struct statvfs st;

	return fstatvfs(root, &st) == 0 && st.f_flag & ST_RDONLY;
}

int listeners_prepare(struct listeners *l, int tree, int root, struct error *e)
{
	struct stat st;

	*l = (struct listeners){.root = root};
	l->off = is_read_only(root);
	if (l->off)
		return 0;
	if (kernel_dev(root, &l->dev) < 0) {
		if (fstat(root, &st) < 0)
			return error_set(e, errno, "cannot identify the image");
		l->dev = (uint32_t)(major(st.st_dev) << 20 | minor(st.st_dev));
	}
	int r = networks_find(&l->networks, tree, e);
	if (r < 0)
		return r;
	r = ask_all(l); /* the kernel may have to load a module for it, from the image */
	/* A kernel without it: then nobody can tell. */
	l->off = r == -ENOENT || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP;
	return r < 0 && !l->off ? error_set(e, r, "cannot look for unix sockets on the image") : 0;
}

void listeners_done(struct listeners *l)
{
	networks_done(&l->networks);
	free(l->list);
	*l = (struct listeners){.off = true};
}

/* Telling whether one is on the image */

/* From that directory, on its own mount alone. */
static bool is_found_from(int from, const struct unix_bound *s)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT};
	struct stat st;
	CLEANUP_FD int fd = (int)syscall(SYS_openat2, from, s->name, &how, sizeof(how));

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       (uint32_t)st.st_ino == s->ino;
}

/* As its holder would find it: from the root that it has, or where it stands, if that is on one of
 * the mounts. */
static bool is_on(const struct unix_bound *s, pid_t tid, const uint64_t *mounts, unsigned n,
	unsigned *ret_image)
{
	char path[48];
	uint64_t mount;

	(void)snprintf(
		path, sizeof(path), "/proc/%d/%s", (int)tid, s->name[0] == '/' ? "root" : "cwd");
	CLEANUP_FD int from = open(path, O_PATH | O_CLOEXEC);
	if (from < 0 || mount_id_of_fd(from, &mount) < 0)
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (mounts[i] != mount)
			continue;
		*ret_image = i;
		return is_found_from(from, s);
	}
	return false;
}

const struct bound_socket *listeners_find(struct listeners *l, uint64_t inode, pid_t tid,
	const uint64_t *mounts, unsigned n, unsigned *ret_image)
{
	struct bound_socket *found = by_inode(l, inode);

	if (!found || !is_on(&found->socket, tid, mounts, n, ret_image))
		return NULL;
	found->seen = true;
	return found;
}

bool listeners_missed(const struct listeners *l, pid_t pid)
{
	return !l->off && networks_is_new(&l->networks, pid);
}

/* Refusing */

static int refuse(const struct holder *h, struct error *e)
{
	char text[400];

	plan_describe(h, text, sizeof(text));
	return error_say(e, EROFS, "%s: %s", text, plan_stake(h));
}

int listeners_refuse(struct listeners *l, const struct holders *h, uint64_t mount, struct error *e)
{
	unsigned image;

	for (size_t i = 0; i < h->count; i++)
		if (h->list[i].what == HELD_SOCKET &&
			plan_holder_action(&h->list[i], plan_policy_of(&h->list[i]), false,
				false) == ACTION_BLOCKS)
			return refuse(&h->list[i], e);
	/* With somebody beyond the tree, or on its way to somebody. */
	for (size_t i = 0; i < l->count; i++) {
		struct unix_bound *s = &l->list[i].socket;
		struct holder other = {.what = HELD_SOCKET,
			.pid = l->list[i].of_init ? getpid() : 0,
			.path = s->name};
		if (!l->list[i].seen && is_on(s, getpid(), &mount, 1, &image))
			return refuse(&other, e);
	}
	return 0;
}
