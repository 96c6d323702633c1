/* SPDX-License-Identifier: MIT */
#include "services/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/handshake.h"
#include "services/instance_start.h"
#include "services/remains.h"
#include "services/session.h"

static void cgroup_name(const struct instance *i, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s/%u", i->service->unit->name, i->number);
}

/* In a cgroup that has been removed from outside nothing can be. Any other failure says nothing. */
static bool reads_empty(int events_fd)
{
	bool populated;
	int r = events_fd < 0 ? events_fd : cgroup_events(events_fd, &populated, NULL);

	return r == 0 ? !populated : r == -ENODEV || r == -ENOENT;
}

static void events_ready(struct loop_source *source, uint32_t events)
{
	struct instance *i = CONTAINER_OF(source, struct instance, events);

	(void)events;
	if (reads_empty(i->events_fd))
		instance_on_empty(i);
}

/* The cgroup that holds those of its service. */
static int base_of(const struct instance *i)
{
	return i->outside ? world.storage : world.tree;
}

static struct instance *allocate(struct service *s, unsigned number)
{
	struct instance *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->service = s;
	i->number = number;
	i->cgroup = i->events_fd = i->exec_pipe = i->handshake.fd = -1;
	i->events.fd = i->exec_source.fd = i->handshake.source.fd = -1;
	i->main.exited = instance_main_exited;
	return i;
}

static int open_cgroup(struct instance *i, struct error *e)
{
	char name[512];
	int r;

	r = cgroup_make(base_of(i), i->service->unit->name);
	if (r >= 0) {
		(void)fd_close(r);
		cgroup_name(i, name, sizeof(name));
		r = cgroup_make(base_of(i), name);
	}
	if (r < 0)
		return error_set(e, r, "cannot make the cgroup of %s", i->service->unit->name);
	i->cgroup = r;
	r = cgroup_open_events(i->cgroup);
	if (r >= 0) {
		i->events_fd = r;
		i->events.ready = events_ready;
		r = loop_add(&i->events, i->events_fd, EPOLLPRI);
	}
	return r < 0 ? error_set(e, r, "cannot watch the cgroup of %s", i->service->unit->name) : 0;
}

struct instance *instance_adopt(struct service *s, unsigned number, bool outside, struct error *e)
{
	struct instance *i = allocate(s, number);

	if (!i) {
		(void)error_set(e, ENOMEM, "cannot make an instance of %s", s->unit->name);
		return NULL;
	}
	i->outside = outside;
	if (open_cgroup(i, e) < 0) {
		instance_free(i);
		return NULL;
	}
	return i;
}

static bool is_held(const struct instance *i, const char *name)
{
	char number[16];

	if (!i)
		return false;
	(void)snprintf(number, sizeof(number), "%u", i->number);
	return strcmp(number, name) == 0;
}

static void sweep_one(const struct service *s, int base, const char *number)
{
	char name[512];

	(void)snprintf(name, sizeof(name), "%s/%s", s->unit->name, number);
	if (cgroup_remove(base, name) == -EBUSY)
		remains_watch(base, name);
}

static void sweep(const struct service *s, int base)
{
	CLEANUP_FD int parent = openat(base, s->unit->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd =
		parent < 0 ? -1 : openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		return;
	(void)fd_steal(&fd);
	for (struct dirent *entry; (entry = readdir(d));)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
			!is_held(s->current, entry->d_name) &&
			!is_held(s->incoming, entry->d_name) &&
			!is_held(s->draining, entry->d_name))
			sweep_one(s, base, entry->d_name);
	(void)closedir(d);
}

void instance_sweep(const struct service *s)
{
	sweep(s, world.tree);
	if (world.storage_path)
		sweep(s, world.storage);
}

void instance_kill_strays(struct service *s)
{
	int root = s->unit->system_storage && world.storage_path ? world.storage : world.tree;
	char name[512];

	/* Numbers are given in turn, and each start takes one: two at most in one turn of the loop.
	 */
	unsigned number = s->last_instance + 1;
	for (unsigned end = number + 2; number < end; number++) {
		(void)snprintf(name, sizeof(name), "%s/%u", s->unit->name, number);
		CLEANUP_FD int fd =
			openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		/* The next one gets a cgroup in which nothing was ever killed; see start_command().
		 */
		s->last_instance = number;
		log_warning("%s: a start that was only just begun is begun anew", s->unit->name);
		int r = cgroup_kill(fd);
		if (r < 0)
			log_error("cannot kill the cgroup %s: %s", name, strerror(-r));
	}
}

struct instance *instance_new(struct service *s, struct error *e)
{
	bool outside = s->unit->system_storage && world.storage_path;

	sweep(s, outside ? world.storage : world.tree);
	struct instance *i = instance_adopt(s, s->last_instance + 1, outside, e);

	if (i)
		s->last_instance = i->number;
	return i;
}

void instance_free(struct instance *i)
{
	char name[512];

	if (!i)
		return;
	if (i->service->unit->utmp_line)
		session_note_end(i->service->unit->utmp_line);
	instance_close_exec_pipe(i);
	handshake_close(i);
	process_forget(&i->main);
	loop_remove(&i->events);
	(void)fd_close(i->events_fd);
	if (i->cgroup >= 0) {
		cgroup_name(i, name, sizeof(name));
		int r = cgroup_remove(base_of(i), name);
		if (r == -EBUSY)
			remains_watch(base_of(i), name);
		else if (r < 0)
			log_debug("cannot remove the cgroup %s: %s", name, strerror(-r));
	}
	(void)fd_close(i->cgroup);
	free(i);
}

bool instance_owns(const struct instance *i, pid_t pid)
{
	char path[512], own[512];
	const char *base = i->outside ? world.storage_path : world.tree_path;

	if (!base || cgroup_of_pid(pid, path, sizeof(path)) < 0)
		return false;
	(void)snprintf(own, sizeof(own), "%s/%s/%u", base, i->service->unit->name, i->number);
	size_t length = strlen(own);
	return strncmp(path, own, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

int instance_set_main(struct instance *i, pid_t pid)
{
	if (i->main.pid == pid)
		return 0;
	int pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		return -errno;
	/* In this order: were the number somebody else's by now, the descriptor's process would
	 * have ended. */
	int r = instance_owns(i, pid) ? 0 : -EPERM;
	/* Readable once it has ended, though its number lasts until it is buried. */
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	if (r == 0 && poll(&ended, 1, 0) != 0)
		r = -ESRCH;
	if (r < 0) {
		(void)fd_close(pidfd);
		return r;
	}
	process_forget(&i->main);
	return process_watch(&i->main, pid, pidfd);
}

int instance_read_pid_file(const struct instance *i, pid_t *ret)
{
	char text[32], path[64];
	struct stat st;

	if (!i->service->unit->pid_file)
		return -ENOENT;
	/* The service's user may write there: a pipe or a device put in its place must not hold up
	 * PID 1. */
	CLEANUP_FD int fd = open(i->service->unit->pid_file, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = file_read(AT_FDCWD, path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	text[strcspn(text, "\n")] = '\0';
	return parse_pid(text, ret) ? 0 : -EBADMSG;
}

bool instance_is_empty(const struct instance *i)
{
	CLEANUP_FD int fd = cgroup_open_events(i->cgroup);

	/* Not through the watched descriptor: that the last process has gone must stay an event for
	 * whoever waits. */
	return reads_empty(fd);
}

bool instance_is_frozen(const struct instance *i)
{
	CLEANUP_FD int fd = cgroup_open_events(i->cgroup);
	bool frozen;

	return fd >= 0 && cgroup_events(fd, NULL, &frozen) == 0 && frozen;
}

void instance_terminate(struct instance *i)
{
	instance_signal(i, i->service->unit->kill_signal);
}

/* Who could not be listed has not been told: the main process at least, which tells the others. */
static void signal_everybody(struct instance *i, int signal)
{
	int r = cgroup_signal(i->cgroup, signal);

	if (r < 0 && i->main.pid)
		r = process_signal(&i->main, signal);
	if (r < 0)
		log_warning("cannot signal the processes of %s: %s", i->service->unit->name,
			strerror(-r));
}

void instance_signal(struct instance *i, int signal)
{
	const struct unit *u = i->service->unit;
	bool main_only = u->kill_mode == KILL_MIXED || u->kill_mode == KILL_PROCESS;

	if (u->kill_mode == KILL_NONE || (u->kill_mode == KILL_PROCESS && !i->main.pid))
		return;
	if (main_only && i->main.pid) {
		(void)process_signal(&i->main, signal);
		(void)process_signal(&i->main, SIGCONT); /* a stopped process cannot end itself */
		return;
	}
	signal_everybody(i, signal);
	signal_everybody(i, SIGCONT);
}

void instance_kill(struct instance *i)
{
	int r = cgroup_kill(i->cgroup);

	if (r < 0)
		log_error("cannot kill the cgroup of %s: %s", i->service->unit->name, strerror(-r));
}

struct pids_job {
	struct pid_array *list;
};

static int collect(int cgroup, const char *path, void *userdata)
{
	struct pids_job *job = userdata;

	(void)path;
	return cgroup_pids(cgroup, "cgroup.procs", job->list);
}

int instance_pids(const struct instance *i, struct pid_array *list)
{
	struct pids_job job = {list};

	return cgroup_walk(i->cgroup, collect, &job);
}
