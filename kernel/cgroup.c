/* SPDX-License-Identifier: MIT */
#include "kernel/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/util.h"

/* A level more than we let anybody nest (cgroup_limit_depth()). */
#define DEPTH_MAX (CGROUP_DEPTH + 1)

int cgroup_make(int dirfd, const char *name)
{
	if (mkdirat(dirfd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int cgroup_freeze(int cgroup, bool freeze)
{
	return file_write(cgroup, "cgroup.freeze", freeze ? "1" : "0");
}

int cgroup_open_events(int cgroup)
{
	int fd = openat(cgroup, "cgroup.events", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static bool has_line(const char *text, const char *line)
{
	const char *found = strstr(text, line);

	return found && (found == text || found[-1] == '\n');
}

int cgroup_events(int events_fd, bool *ret_populated, bool *ret_frozen)
{
	char buf[128];
	ssize_t n = pread(events_fd, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	if (ret_populated)
		*ret_populated = has_line(buf, "populated 1");
	if (ret_frozen)
		*ret_frozen = has_line(buf, "frozen 1");
	return 0;
}

int cgroup_wait_frozen(int events_fd, bool frozen, uint64_t deadline_usec)
{
	for (;;) {
		bool is = false;
		int r = cgroup_events(events_fd, NULL, &is);
		if (r < 0)
			return r;
		if (is == frozen)
			return 0;

		uint64_t now = clock_usec();
		if (now >= deadline_usec)
			return -ETIMEDOUT;
		/* The read above armed the poll (kernfs_fop_poll): a change since then wakes it at
		 * once. */
		struct pollfd p = {.fd = events_fd, .events = POLLPRI};
		uint64_t left = deadline_usec - now;
		struct timespec ts = {
			(time_t)(left / USEC_PER_SEC), (long)(left % USEC_PER_SEC) * 1000};
		if (ppoll(&p, 1, &ts, NULL) < 0 && errno != EINTR)
			return -errno;
	}
}

struct walk {
	cgroup_visit visit;
	void *userdata;
	char path[PATH_MAX]; /* of the cgroup that is looked at */
	size_t length;
};

static int walk_children(struct walk *w, int cgroup, int depth);

static int walk_one(struct walk *w, int parent, const char *name, int depth)
{
	CLEANUP_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	size_t length = w->length, room = sizeof(w->path) - length;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno; /* removed meanwhile */
	int n = snprintf(w->path + length, room, "%s%s", length ? "/" : "", name);
	if ((size_t)n >= room)
		return -ENAMETOOLONG;
	w->length += (size_t)n;
	int r = walk_children(w, fd, depth + 1);
	if (r == 0)
		r = w->visit(fd, w->path, w->userdata);
	w->length = length;
	w->path[length] = '\0';
	return r;
}

/* Depth first, so that what visits may remove what it visits. */
static int walk_children(struct walk *w, int cgroup, int depth)
{
	int r = 0;

	if (depth >= DEPTH_MAX)
		return -ELOOP;
	int copy = openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (copy < 0)
		return -errno;
	DIR *dir = fdopendir(copy);
	if (!dir) {
		int saved = errno;
		(void)fd_close(copy);
		return -saved;
	}
	while (r == 0) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (!entry) {
			/* ENOENT: the cgroup itself was removed while we read it. */
			r = errno == ENOENT ? 0 : -errno;
			break;
		}
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			r = walk_one(w, cgroup, entry->d_name, depth);
	}
	(void)closedir(dir);
	return r;
}

int cgroup_walk(int cgroup, cgroup_visit visit, void *userdata)
{
	struct walk w = {.visit = visit, .userdata = userdata};
	int r = walk_children(&w, cgroup, 0);

	return r ? r : visit(cgroup, "", userdata);
}

int cgroup_limit_depth(int cgroup)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", CGROUP_DEPTH);
	return file_write(cgroup, "cgroup.max.depth", text);
}

int pid_array_add(struct pid_array *list, pid_t pid)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		pid_t *grown = realloc(list->pids, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->pids = grown;
		list->capacity = capacity;
	}
	list->pids[list->count++] = pid;
	return 0;
}

void pid_array_free(struct pid_array *list)
{
	free(list->pids);
	*list = (struct pid_array){0};
}

/* Takes the numbers that end in a newline out of buf; returns how many bytes are left over in
 * front. */
static int take_numbers(char *buf, size_t *used, struct pid_array *list)
{
	char *line = buf, *end;

	while ((end = memchr(line, '\n', *used - (size_t)(line - buf)))) {
		pid_t pid;
		*end = '\0';
		/* 0 is a task of another PID namespace: not ours to see. */
		if (parse_pid(line, &pid)) {
			int r = pid_array_add(list, pid);
			if (r < 0)
				return r;
		}
		line = end + 1;
	}
	*used -= (size_t)(line - buf);
	memmove(buf, line, *used);
	return 0;
}

int cgroup_pids(int cgroup, const char *file, struct pid_array *list)
{
	char buf[4096];
	size_t used = 0;
	CLEANUP_FD int fd = openat(cgroup, file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, buf + used, sizeof(buf) - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			/* A threaded child cgroup has no cgroup.procs to read: its processes are
			 * its parent's. */
			return errno == ENODEV || errno == EOPNOTSUPP ? 0 : -errno;
		if (n == 0)
			return 0;
		used += (size_t)n;
		int r = take_numbers(buf, &used, list);
		if (r < 0)
			return r;
	}
}

struct signal_job {
	int signal;
	int count;
};

static int signal_visit(int cgroup, const char *path, void *userdata)
{
	struct signal_job *job = userdata;
	struct pid_array list = {0};
	int r = cgroup_pids(cgroup, "cgroup.procs", &list);

	(void)path;
	for (size_t i = 0; i < list.count; i++)
		if (kill(list.pids[i], job->signal) == 0)
			job->count++;
	pid_array_free(&list);
	return r == -ENODEV || r == -ENOENT ? 0 : r;
}

int cgroup_signal(int cgroup, int signal)
{
	struct signal_job job = {.signal = signal};
	int r = cgroup_walk(cgroup, signal_visit, &job);

	return r < 0 ? r : job.count;
}

int cgroup_kill(int cgroup)
{
	int r = file_write(cgroup, "cgroup.kill", "1");

	if (r != -ENOENT)
		return r;
	r = cgroup_signal(cgroup, SIGKILL);
	return r < 0 ? r : 0;
}

static int remove_visit(int cgroup, const char *path, void *userdata)
{
	const int *root = userdata;

	(void)cgroup;
	if (!*path)
		return 0;
	return unlinkat(*root, path, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(int dirfd, const char *name)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int r = cgroup_walk(fd, remove_visit, &fd);
	if (r)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

struct each_process {
	cgroup_visit_process visit;
	void *userdata;
};

static int visit_processes(int cgroup, const char *path, void *userdata)
{
	const struct each_process *each = userdata;
	struct pid_array list = {0};
	int r = cgroup_pids(cgroup, "cgroup.procs", &list);

	(void)path;
	if (r == -ENODEV || r == -ENOENT)
		r = 0; /* removed while we looked */
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = each->visit(list.pids[i], each->userdata);
	pid_array_free(&list);
	return r;
}

int cgroup_each_process(int cgroup, cgroup_visit_process visit, void *userdata)
{
	struct each_process each = {visit, userdata};

	return cgroup_walk(cgroup, visit_processes, &each);
}

int cgroup_of_pid(pid_t pid, char *buf, size_t size)
{
	char path[32], text[8192];

	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	ssize_t n = file_read(AT_FDCWD, path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	/* The v2 line is "0::PATH"; v1 hierarchies, where there are any, come before it. */
	char *line = starts_with(text, "0::") ? text : strstr(text, "\n0::");
	if (!line)
		return -ENODATA;
	line = strchr(line, '/');
	if (!line)
		return -ENODATA;
	size_t length = strcspn(line, "\n");
	if (length >= size)
		return -ENAMETOOLONG;
	memcpy(buf, line, length);
	buf[length] = '\0';
	return 0;
}
