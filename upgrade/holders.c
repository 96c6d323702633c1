/* SPDX-License-Identifier: MIT */
#include "upgrade/holders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/cgroup.h"
#include "kernel/proc.h"
#include "kernel/util.h"

struct scan {
	struct holders *out;
	const uint64_t *mounts;
	unsigned n_mounts;
	bool below_only;
	bool with_exe;
	const char *cgroup;
	pid_t pid, tid;
};

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
	}
	return "?";
}

bool holder_is_writer(const struct holder *h)
{
	int access = h->flags & O_ACCMODE;

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
	}
	free(h->list);
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

static bool image_of(const struct scan *s, uint64_t mount_id, unsigned *ret)
{
	for (unsigned i = 0; i < s->n_mounts; i++) {
		if (s->mounts[i] == mount_id) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static int add(struct scan *s, enum held what, int fd, unsigned image, const char *path)
{
	static const char DELETED[] = " (deleted)"; /* proc(5), of /proc/PID/fd */
	struct holder *h = append(s->out);

	if (!h)
		return -ENOMEM;
	h->pid = s->pid;
	h->tid = s->tid;
	h->what = what;
	h->fd = fd;
	h->image = image;
	h->path = strdup(path);
	h->cgroup = strdup(s->cgroup);
	if (!h->path || !h->cgroup)
		return -ENOMEM;
	if (ends_with(path, DELETED)) {
		h->deleted = true;
		h->path[strlen(path) - strlen(DELETED)] = '\0';
	}
	int r = fd >= 0 ? proc_fd_info(s->tid, fd, &h->offset, &h->flags) : 0;
	return proc_is_gone(r) ? 0 : r;
}

static int scan_link(struct scan *s, const char *link, enum held what)
{
	char path[PATH_MAX];
	uint64_t mount_id;
	unsigned image = 0;

	int r = proc_link_mount(s->tid, link, &mount_id);
	if (r == 0 && !image_of(s, mount_id, &image))
		return 0;
	if (r == 0)
		r = proc_link_text(s->tid, link, path, sizeof(path));
	/* Not known is not nothing: only who has ended holds nothing. */
	if (r < 0)
		return proc_is_gone(r) || r == -EACCES ? 0 : r;
	if (s->below_only && strcmp(path, "/") == 0)
		return 0;
	return add(s, what, -1, image, path);
}

static int scan_fd(const struct proc_fd *fd, void *userdata)
{
	struct scan *s = userdata;
	char path[PATH_MAX], link[32];
	unsigned image;

	if (!image_of(s, fd->mount_id, &image))
		return 0;
	(void)snprintf(link, sizeof(link), "fd/%d", fd->fd);
	int r = proc_link_text(s->tid, link, path, sizeof(path));
	if (r < 0)
		return proc_is_gone(r) ? 0 : r;
	return add(s, S_ISDIR(fd->mode) ? HELD_DIRFD : HELD_FILE, fd->fd, image, path);
}

static int scan_fs(struct scan *s)
{
	int r = scan_link(s, "root", HELD_ROOT);

	return r ? r : scan_link(s, "cwd", HELD_CWD);
}

static int scan_files(struct scan *s)
{
	int r = proc_fds(s->tid, scan_fd, s);

	/* Gone, or its table is: then it holds nothing. */
	return proc_is_gone(r) || r == -EACCES ? 0 : r;
}

static bool has_threads(pid_t pid)
{
	char path[32];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	/* One directory for each thread: proc_task_getattr() counts them as links. */
	return stat(path, &st) == 0 && st.st_nlink > 3;
}

/* Threads share both with their process unless they asked otherwise: once per distinct one. */
static int scan_threads(struct scan *s)
{
	struct pid_array threads = {0};
	int r;

	if (!has_threads(s->pid))
		return 0;
	r = proc_threads(s->pid, &threads);
	if (proc_is_gone(r))
		r = 0;
	for (size_t i = 0; r == 0 && i < threads.count; i++) {
		s->tid = threads.pids[i];
		if (s->tid == s->pid)
			continue;
		if (!proc_same_fs(s->pid, s->tid))
			r = scan_fs(s);
		if (r == 0 && !proc_same_files(s->pid, s->tid))
			r = scan_files(s);
	}
	s->tid = s->pid;
	pid_array_free(&threads);
	return r;
}

static int scan_process(struct scan *s, pid_t pid)
{
	int r;

	s->pid = s->tid = pid;
	s->out->n_processes++;
	r = scan_fs(s);
	if (r == 0)
		r = scan_files(s);
	if (r == 0)
		r = scan_threads(s);
	if (r == 0 && s->with_exe)
		r = scan_link(s, "exe", HELD_EXE);
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
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = scan_process(s, list.pids[i]);
	pid_array_free(&list);
	return r;
}

int holders_scan(struct holders *h, int tree, const uint64_t *mounts, unsigned n, bool below_only,
	bool with_exe, struct error *e)
{
	struct scan s = {.out = h,
		.mounts = mounts,
		.n_mounts = n,
		.below_only = below_only,
		.with_exe = with_exe};
	int r = cgroup_walk(tree, scan_cgroup, &s);

	return r < 0 ? error_set(e, r, "cannot look through the processes for what they hold") : 0;
}
