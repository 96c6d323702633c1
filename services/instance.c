/* SPDX-License-Identifier: MIT */
#include "services/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include "services/output.h"
#include "services/spawn.h"

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static void cgroup_name(const struct instance *i, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s/%u", i->service->unit->name, i->number);
}

/* A cgroup that cannot be read has been removed from outside: nothing can be in it. */
static bool reads_empty(int events_fd)
{
	bool populated;

	return cgroup_events(events_fd, &populated, NULL) < 0 || !populated;
}

static void events_ready(struct loop_source *source, uint32_t events)
{
	struct instance *i = CONTAINER_OF(source, struct instance, events);

	(void)events;
	if (reads_empty(i->events_fd))
		instance_on_empty(i);
}

static void main_exited(struct process *p, const struct process_exit *ended);

static struct instance *allocate(struct service *s, unsigned number)
{
	struct instance *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->service = s;
	i->number = number;
	i->cgroup = i->events_fd = i->exec_pipe = -1;
	i->events.fd = i->exec_source.fd = -1;
	i->main.exited = main_exited;
	return i;
}

static int open_cgroup(struct instance *i, struct error *e)
{
	char name[512];
	int r;

	r = cgroup_make(world.tree, i->service->unit->name);
	if (r >= 0) {
		(void)fd_close(r);
		cgroup_name(i, name, sizeof(name));
		r = cgroup_make(world.tree, name);
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

struct instance *instance_adopt(struct service *s, unsigned number, struct error *e)
{
	struct instance *i = allocate(s, number);

	if (!i) {
		(void)error_set(e, ENOMEM, "cannot make an instance of %s", s->unit->name);
		return NULL;
	}
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

/* What earlier instances could not remove because a process outlived them goes now, if it is empty.
 */
static void sweep(const struct service *s)
{
	CLEANUP_FD int parent =
		openat(world.tree, s->unit->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
			(void)cgroup_remove(parent, entry->d_name);
	(void)closedir(d);
}

struct instance *instance_new(struct service *s, struct error *e)
{
	sweep(s);
	struct instance *i = instance_adopt(s, s->last_instance + 1, e);

	if (i)
		s->last_instance = i->number;
	return i;
}

static void close_exec_pipe(struct instance *i)
{
	loop_remove(&i->exec_source);
	i->exec_pipe = fd_close(i->exec_pipe);
}

void instance_free(struct instance *i)
{
	char name[512];

	if (!i)
		return;
	close_exec_pipe(i);
	process_forget(&i->main);
	loop_remove(&i->events);
	(void)fd_close(i->events_fd);
	if (i->cgroup >= 0) {
		cgroup_name(i, name, sizeof(name));
		int r = cgroup_remove(world.tree, name);
		if (r < 0)
			log_debug("cannot remove the cgroup %s: %s", name, strerror(-r));
	}
	(void)fd_close(i->cgroup);
	free(i);
}

/* Reads why the exec failed: true with the text, or false if it did not (or it is not known yet).
 */
static bool take_exec_failure(struct instance *i, char *text, size_t size)
{
	int r;

	if (i->exec_pipe < 0)
		return false;
	r = spawn_read_failure(i->exec_pipe, text, size);
	if (r < 0)
		return false;
	close_exec_pipe(i);
	i->execed = r == 0;
	return r > 0;
}

static void exec_ready(struct loop_source *source, uint32_t events)
{
	struct instance *i = CONTAINER_OF(source, struct instance, exec_source);
	char text[512];

	(void)events;
	if (take_exec_failure(i, text, sizeof(text)))
		instance_on_exec(i, text);
	else if (i->execed)
		instance_on_exec(i, NULL);
}

static bool is_of(const struct instance *held, const struct instance *i, unsigned number)
{
	return held == i && held->number == number;
}

static void main_exited(struct process *p, const struct process_exit *ended)
{
	struct instance *i = CONTAINER_OF(p, struct instance, main);
	struct service *s = i->service;
	unsigned number = i->number;
	bool waiting = i->exec_pipe >= 0;
	char text[512];

	/* How its exec went comes first, whichever of the two descriptors was seen first. */
	if (take_exec_failure(i, text, sizeof(text)))
		instance_on_exec(i, text);
	else if (waiting && i->execed)
		instance_on_exec(i, NULL);
	/* That may have ended the instance. */
	if (is_of(s->current, i, number) || is_of(s->incoming, i, number) ||
		is_of(s->draining, i, number))
		instance_on_main_exit(i, ended);
}

static pid_t start(struct instance *i, const struct command *c, bool sockets, int *ret_pidfd,
	int *ret_pipe, struct error *e)
{
	struct service *s = i->service;
	char log_path[512];
	struct spawn spawn = {
		.unit = s->unit,
		.command = c,
		.cgroup = i->cgroup,
		.main_pid = i->main.pid,
		.listen = s->listen,
		.n_listen = sockets ? s->n_listen : 0,
		.log_path = log_path,
	};

	output_path(log_path, sizeof(log_path), s->unit->name);
	return spawn_start(&spawn, ret_pidfd, ret_pipe, e);
}

int instance_adopt_exec_pipe(struct instance *i, int pipe)
{
	i->execed = pipe < 0;
	i->exec_pipe = pipe;
	i->exec_source.ready = exec_ready;
	return pipe < 0 ? 0 : loop_add(&i->exec_source, pipe, EPOLLIN);
}

int instance_start_main(struct instance *i, const struct command *c, struct error *e)
{
	int pidfd, pipe;
	pid_t pid = start(i, c, true, &pidfd, &pipe, e);

	if (pid < 0)
		return pid;
	int r = process_watch(&i->main, pid, pidfd);
	if (r < 0) {
		(void)fd_close(pipe);
		return error_set(e, r, "cannot watch process %d", (int)pid);
	}
	r = instance_adopt_exec_pipe(i, pipe);
	return r < 0 ? error_set(e, r, "cannot watch the start of process %d", (int)pid) : 0;
}

int instance_start_control(struct instance *i, const struct command *c, struct error *e)
{
	int pidfd, pipe;
	pid_t pid = start(i, c, false, &pidfd, &pipe, e);

	if (pid < 0)
		return pid;
	/* Read when it has ended: only of the main process do we wait for the exec itself. */
	i->service->control_pipe = pipe;
	int r = process_watch(&i->service->control, pid, pidfd);
	return r < 0 ? error_set(e, r, "cannot watch process %d", (int)pid) : 0;
}

bool instance_owns(const struct instance *i, pid_t pid)
{
	char path[512], own[512];

	if (cgroup_of_pid(pid, path, sizeof(path)) < 0)
		return false;
	(void)snprintf(
		own, sizeof(own), "%s/%s/%u", world.tree_path, i->service->unit->name, i->number);
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
	if (r == 0 && pidfd_send_signal(pidfd, 0, NULL, 0) < 0)
		r = -errno;
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

void instance_terminate(struct instance *i)
{
	const struct unit *u = i->service->unit;
	bool main_only = u->kill_mode == KILL_MIXED || u->kill_mode == KILL_PROCESS;

	if (u->kill_mode == KILL_NONE || (u->kill_mode == KILL_PROCESS && !i->main.pid))
		return;
	if (main_only && i->main.pid) {
		(void)process_signal(&i->main, u->kill_signal);
		(void)process_signal(&i->main, SIGCONT); /* a stopped process cannot end itself */
		return;
	}
	(void)cgroup_signal(i->cgroup, u->kill_signal);
	(void)cgroup_signal(i->cgroup, SIGCONT);
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
