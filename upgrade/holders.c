/* SPDX-License-Identifier: MIT */
#include "upgrade/holders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/cgroup.h"
#include "kernel/proc_maps.h"
#include "kernel/util.h"
#include "upgrade/holders_internal.h"
#include "upgrade/listeners.h"
#include "upgrade/pins.h"

/* Of one process; nearly all have one. */
#define DISTINCT_MAX 8

const char *held_name(enum held what)
{
	switch (what) {
	case HELD_ROOT:
		return "root";
	case HELD_CWD:
		return "cwd";
	case HELD_DIRFD:
		return "dirfd";
	case HELD_FILE:
		return "file";
	case HELD_EXE:
		return "exe";
	case HELD_MAP:
		return "map";
	case HELD_SOCKET:
		return "socket";
	case HELD_WATCH:
		return "watch";
	case HELD_RING:
		return "ring";
	case HELD_NAMESPACE:
		return "mntns";
	case HELD_MOUNT:
		return "mount";
	case HELD_QUEUED:
		return "queued";
	}
	return "?";
}

bool held_is_directory(enum held what)
{
	return what == HELD_ROOT || what == HELD_CWD || what == HELD_DIRFD;
}

bool holder_is_writer(const struct holder *h)
{
	int access = h->flags & O_ACCMODE;

	if (h->what == HELD_MAP)
		return h->shared;
	return h->what == HELD_FILE && !(h->flags & O_PATH) &&
	       (access == O_WRONLY || access == O_RDWR);
}

void holder_unit(const struct holder *h, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%.*s", (int)strcspn(h->cgroup, "/"), h->cgroup);
}

void holders_free(struct holders *h)
{
	for (size_t i = 0; i < h->count; i++) {
		free(h->list[i].path);
		free(h->list[i].cgroup);
		free(h->list[i].part);
	}
	free(h->list);
	free(h->namespaces);
	*h = (struct holders){0};
}

static struct holder *append(struct holders *h)
{
	if (h->count == h->capacity) {
		size_t capacity = h->capacity ? h->capacity * 2 : 64;
		struct holder *grown = reallocarray(h->list, capacity, sizeof(*grown));
		if (!grown)
			return NULL;
		h->list = grown;
		h->capacity = capacity;
	}
	h->list[h->count] = (struct holder){.fd = -1};
	return &h->list[h->count++];
}

bool scan_image(const struct scan *s, uint64_t mount_id, unsigned *ret)
{
	for (unsigned i = 0; i < s->n_mounts; i++) {
		if (s->mounts[i] == mount_id) {
			*ret = s->images ? s->images[i] : i;
			return true;
		}
	}
	return false;
}

static bool is_alike(const struct holder *a, const struct holder *b)
{
	return a->tid == b->tid && a->what == b->what && a->image == b->image &&
	       a->deleted == b->deleted && holder_is_writer(a) == holder_is_writer(b) &&
	       a->reachable == b->reachable;
}

/* The last one like it, if there are enough of those already. */
static struct holder *one_too_many(const struct scan *s, const struct holder *like)
{
	struct holder *last = NULL;
	unsigned n = 0;

	for (size_t i = s->out->count; i > 0 && s->out->list[i - 1].pid == like->pid; i--) {
		struct holder *h = &s->out->list[i - 1];
		if (!is_alike(h, like))
			continue;
		last = last ? last : h;
		if (++n >= s->depth->alike_max)
			return last;
	}
	return NULL;
}

/* What may forbid the upgrade is listed even where there is too much of everything. */
static bool is_full(const struct scan *s, const struct holder *like)
{
	bool grave = holder_is_writer(like) || like->what == HELD_SOCKET;

	return s->out->count >= (grave ? 2 * HOLDERS_MAX : HOLDERS_MAX);
}

int scan_add(struct scan *s, const struct holder *like, const char *path, struct holder **ret)
{
	static const char DELETED[] = " (deleted)"; /* proc(5), of /proc/PID/fd */
	struct holder h = *like;

	if (ret)
		*ret = NULL;
	h.pid = s->pid;
	h.tid = s->tid;
	h.outside = s->outside;
	h.deleted = like->deleted || ends_with(path, DELETED);
	struct holder *counted = s->depth ? one_too_many(s, &h) : NULL;
	if (counted) {
		counted->more++;
		return 0;
	}
	if (is_full(s, &h)) {
		s->out->n_more++;
		return s->depth ? 0 : -E2BIG;
	}
	struct holder *added = append(s->out);
	if (!added)
		return -ENOMEM;
	*added = h;
	added->path = strdup(path);
	added->cgroup = strdup(s->cgroup);
	if (!added->path || !added->cgroup)
		return -ENOMEM;
	if (ends_with(path, DELETED))
		added->path[strlen(path) - strlen(DELETED)] = '\0';
	if (ret)
		*ret = added;
	return 0;
}

int scan_link(struct scan *s, const char *link, enum held what)
{
	struct holder h = {.what = what, .fd = -1};
	char path[PATH_MAX];
	uint64_t mount_id;

	int r = proc_link_mount(s->tid, link, &mount_id);
	if (r == 0 && !scan_image(s, mount_id, &h.image))
		return 0;
	if (r == 0)
		r = proc_link_text(s->tid, link, path, sizeof(path));
	/* Not known is not nothing: only who has ended holds nothing. */
	if (r < 0)
		return proc_is_gone(r) || r == -EACCES ? 0 : r;
	if (!s->with_root && held_is_directory(what) && strcmp(path, "/") == 0)
		return 0;
	return scan_add(s, &h, path, NULL);
}

/* It may be a mount namespace that nobody is in: namespaces_verify_held(). */
static int note_namespace(struct scan *s, const struct proc_fd *fd)
{
	struct holders *h = s->out;

	for (size_t i = 0; i < h->n_namespaces; i++)
		if (h->namespaces[i].id == fd->ino)
			return 0;
	struct held_namespace *grown =
		reallocarray(h->namespaces, h->n_namespaces + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	h->namespaces = grown;
	h->namespaces[h->n_namespaces++] = (struct held_namespace){s->tid, fd->fd, fd->ino};
	return 0;
}

static int scan_socket(struct scan *s, const struct proc_fd *fd)
{
	struct holder h = {.what = HELD_SOCKET, .fd = fd->fd, .reachable = true};
	const struct bound_socket *bound =
		listeners_find(s->listeners, fd->ino, s->tid, s->mounts, s->n_mounts, &h.image);

	if (!bound)
		return 0;
	h.of_init = bound->of_init;
	/* Its flags tell whether an exec would close it. */
	int r = proc_fd_info(s->tid, fd->fd, &h.offset, &h.flags);
	if (r < 0)
		return proc_is_gone(r) ? 0 : r;
	return scan_add(s, &h, bound->socket.name, NULL);
}

static int look_at_fd(struct scan *s, const struct proc_fd *fd)
{
	struct holder h = {.what = S_ISDIR(fd->mode) ? HELD_DIRFD : HELD_FILE, .fd = fd->fd};
	char path[PATH_MAX], link[32];

	if (!s->depth && pin_is_namespace(fd))
		return note_namespace(s, fd);
	if (s->listeners && S_ISSOCK(fd->mode))
		return scan_socket(s, fd);
	if (!scan_image(s, fd->mount_id, &h.image))
		return s->depth && s->depth->fd ? s->depth->fd(s, fd) : 0;
	if (!s->depth && h.what == HELD_FILE) {
		s->out->n_files++;
		return 0;
	}
	(void)snprintf(link, sizeof(link), "fd/%d", fd->fd);
	int r = proc_link_text(s->tid, link, path, sizeof(path));
	if (r == 0)
		r = proc_fd_info(s->tid, fd->fd, &h.offset, &h.flags);
	if (r < 0)
		return proc_is_gone(r) ? 0 : r; /* closed meanwhile */
	if (s->depth && s->depth->only_writers && !holder_is_writer(&h))
		return 0;
	return scan_add(s, &h, path, NULL);
}

/* 1: whose table it is too has been looked at. Of one cgroup, or the policies may differ. */
static int begin_large_table(struct scan *s)
{
	for (size_t i = 0; i < s->n_tables; i++)
		if (proc_same_files(s->tables[i], s->tid))
			return 1;
	if (s->n_tables < TABLES_MAX)
		s->tables[s->n_tables++] = s->tid;
	return 0;
}

static bool is_late(const struct scan *s)
{
	return s->deadline_usec && clock_usec() >= s->deadline_usec;
}

static int scan_fd(const struct proc_fd *fd, void *userdata)
{
	struct scan *s = userdata;

	if (++s->n_fds % TABLE_LARGE == 0) {
		if (is_late(s))
			return -ETIMEDOUT;
		if (s->n_fds == TABLE_LARGE && begin_large_table(s))
			return 1;
	}
	return look_at_fd(s, fd);
}

static int scan_fs(struct scan *s)
{
	if (s->depth && s->depth->only_writers)
		return 0;
	int r = scan_link(s, "root", HELD_ROOT);
	return r ? r : scan_link(s, "cwd", HELD_CWD);
}

static int scan_files(struct scan *s)
{
	s->n_fds = 0;
	int r = proc_fds(s->tid, scan_fd, s);

	/* Gone, or its table is: then it holds nothing. */
	return r == 1 || proc_is_gone(r) || r == -EACCES ? 0 : r;
}

/* Threads that have something of their own, each standing for those that share it. */
struct distinct {
	pid_t tids[DISTINCT_MAX];
	size_t count;
};

/* Where there are more than are remembered, some are looked at twice. */
static bool is_distinct(struct distinct *d, pid_t tid, bool (*same)(pid_t a, pid_t b))
{
	for (size_t i = 0; i < d->count; i++)
		if (same(d->tids[i], tid))
			return false;
	if (d->count < DISTINCT_MAX)
		d->tids[d->count++] = tid;
	return true;
}

/* Threads share both with their process unless they asked otherwise, or unless its first thread has
 * ended: that is a zombie with neither until the last one ends. Once per distinct one. */
static int scan_threads(struct scan *s)
{
	struct distinct fs = {{s->pid}, 1}, files = {{s->pid}, 1};
	struct pid_array threads = {0};
	int r = proc_has_threads(s->pid);

	if (r > 0)
		r = proc_threads(s->pid, &threads);
	if (proc_is_gone(r))
		r = 0;
	for (size_t i = 0; r == 0 && i < threads.count; i++) {
		s->tid = threads.pids[i];
		if (s->tid == s->pid)
			continue;
		if (is_distinct(&fs, s->tid, proc_same_fs))
			r = scan_fs(s);
		if (r == 0 && is_distinct(&files, s->tid, proc_same_files))
			r = scan_files(s);
	}
	s->tid = s->pid;
	pid_array_free(&threads);
	return r;
}

static bool has_ended(pid_t tid)
{
	struct proc_stat st;

	return proc_stat_read(tid, &st) == 0 && (st.state == 'Z' || st.state == 'X');
}

/* A thread that has the memory of its process still. */
static pid_t living_thread(pid_t pid)
{
	struct pid_array threads = {0};
	pid_t found = pid;

	if (!has_ended(pid))
		return pid;
	if (proc_threads(pid, &threads) < 0)
		threads.count = 0;
	for (size_t i = 0; i < threads.count && found == pid; i++)
		if (threads.pids[i] != pid && !has_ended(threads.pids[i]))
			found = threads.pids[i];
	pid_array_free(&threads);
	return found;
}

static int run_depth(struct scan *s, int (*look)(struct scan *s))
{
	if (!look)
		return 0;
	s->tid = living_thread(s->pid);
	int r = look(s);
	s->tid = s->pid;
	return r;
}

static int scan_process(struct scan *s, pid_t pid)
{
	int r;

	s->pid = s->tid = pid;
	s->out->n_processes++;
	if (is_late(s))
		return -ETIMEDOUT;
	if (s->listeners && listeners_missed(s->listeners, pid))
		return -ESTALE;
	r = s->depth ? run_depth(s, s->depth->begin) : 0;
	if (r == 0)
		r = scan_fs(s);
	if (r == 0)
		r = scan_files(s);
	if (r == 0)
		r = scan_threads(s);
	if (r == 0 && s->depth)
		r = run_depth(s, s->depth->process);
	return r;
}

static int scan_cgroup(int cgroup, const char *path, void *userdata)
{
	struct scan *s = userdata;
	struct pid_array list = {0};
	int r = cgroup_pids(cgroup, "cgroup.procs", &list);

	if (r == -ENODEV || r == -ENOENT)
		r = 0; /* removed while we looked */
	s->cgroup = path;
	s->n_tables = 0;
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = scan_process(s, list.pids[i]);
	pid_array_free(&list);
	return r;
}

int scan_tree(struct scan *s, int tree, struct error *e)
{
	int r = cgroup_walk(tree, scan_cgroup, s);

	if (r == -E2BIG)
		return error_say(e, E2BIG,
			"more than %d references to the old image are held, the last of them by process %d",
			HOLDERS_MAX, (int)s->pid);
	if (r == -ETIMEDOUT)
		return error_say(e, ETIMEDOUT,
			"the processes have too many descriptors to be looked through within BlackoutTimeoutSec=: %zu of process %d when the time was up, after %zu other processes",
			s->n_fds, (int)s->pid, s->out->n_processes - 1);
	if (r == -ESTALE)
		return error_say(e, ESTALE,
			"network name spaces come and go faster than an upgrade can be planned");
	return r < 0 ? error_set(e, r, "cannot look through the processes for what they hold") : 0;
}

int holders_scan(struct holders *h, int tree, const uint64_t *mounts, unsigned n,
	struct listeners *listeners, uint64_t deadline_usec, struct error *e)
{
	struct scan s = {.out = h,
		.mounts = mounts,
		.n_mounts = n,
		.listeners = listeners,
		.deadline_usec = deadline_usec};

	return scan_tree(&s, tree, e);
}

static int add_writing_map(const struct proc_map *m, void *userdata)
{
	struct scan *s = userdata;
	struct holder h = {.what = HELD_MAP, .fd = -1, .shared = true};

	if (!m->file_writable || !scan_image(s, m->mount_id, &h.image))
		return 0;
	if (m->shared)
		return scan_add(s, &h, m->path, NULL);
	*(bool *)s->userdata = true;
	return 0;
}

static int find_writing_maps(struct scan *s)
{
	int r = proc_maps(s->tid, add_writing_map, s);

	return proc_is_gone(r) ? 0 : r;
}

int holders_find_writers(struct holders *h, bool *ret_latent, int tree, const uint64_t *mounts,
	unsigned n, uint64_t deadline_usec, struct error *e)
{
	static const struct scan_depth WRITERS = {
		.process = find_writing_maps, .only_writers = true, .alike_max = ALIKE_MAX};
	struct scan s = {.out = h,
		.depth = &WRITERS,
		.mounts = mounts,
		.n_mounts = n,
		.deadline_usec = deadline_usec,
		.userdata = ret_latent};

	return scan_tree(&s, tree, e);
}
