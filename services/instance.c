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
#include "services/fdstore.h"
#include "services/handshake.h"
#include "services/listen.h"
#include "services/output.h"
#include "services/spawn.h"

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

static void main_exited(struct process *p, const struct process_exit *ended);

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
	i->main.exited = main_exited;
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

/* What earlier instances could not remove because a process outlived them goes now, if it is empty.
 */
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
			(void)cgroup_remove(parent, entry->d_name);
	(void)closedir(d);
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
	handshake_close(i);
	process_forget(&i->main);
	loop_remove(&i->events);
	(void)fd_close(i->events_fd);
	if (i->cgroup >= 0) {
		cgroup_name(i, name, sizeof(name));
		int r = cgroup_remove(base_of(i), name);
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

/* The sockets that the unit names, in its order, then what was stored. Returns how many. */
static size_t list_passed(const struct service *s, struct passed_fd *list)
{
	const char *name = s->unit->fd_name ? s->unit->fd_name : s->unit->name;
	size_t n = 0;

	for (size_t i = 0; i < s->n_listen; i++)
		if (listen_is_named(s->unit, s->listen[i].address))
			list[n++] = (struct passed_fd){s->listen[i].fd, name};
	for (const struct stored_fd *f = s->stored; f; f = f->next)
		list[n++] = (struct passed_fd){f->fd, f->name};
	return n;
}

static pid_t fork_command(
	struct instance *i, struct spawn *spawn, int *ret_pidfd, int *ret_pipe, struct error *e)
{
	char log_path[512];

	spawn->unit = i->service->unit;
	spawn->main_pid = i->main.pid;
	spawn->log_path = log_path;
	output_path(log_path, sizeof(log_path), i->service->unit->name);
	pid_t pid = spawn_start(spawn, ret_pidfd, ret_pipe, e);
	spawn->log_path = NULL;
	return pid;
}

/* What becomes the service itself gets its descriptors, and its say. */
static pid_t start_service(
	struct instance *i, const struct command *c, int *ret_pidfd, int *ret_pipe, struct error *e)
{
	struct service *s = i->service;
	CLEANUP_FREE struct passed_fd *list = calloc(s->n_listen + s->n_stored + 1, sizeof(*list));
	struct spawn spawn = {.command = c,
		.cgroup = i->cgroup,
		.is_service = true,
		.passed = list,
		.handshake = -1};
	int r = list ? 0 : -ENOMEM;

	if (r == 0)
		spawn.n_passed = list_passed(s, list);
	handshake_close(i);
	if (r == 0 && s->unit->handshake)
		r = handshake_open(i, &spawn.handshake);
	if (r < 0)
		return error_set(e, r, "cannot start %s", c->path);
	pid_t pid = fork_command(i, &spawn, ret_pidfd, ret_pipe, e);
	(void)fd_close(spawn.handshake);
	return pid;
}

/*
 * What runs after everything else of the instance has ended may have been killed gets a cgroup of
 * its own below: since Linux 6.14 whatever is born into one that cgroup.kill was ever written to is
 * killed at birth (cgroup_css_set_fork() compares with the count of kills of the parent's cgroup).
 */
static pid_t start_command(struct instance *i, const struct command *c, enum service_state state,
	int *ret_pidfd, int *ret_pipe, struct error *e)
{
	CLEANUP_FD int after = state == STATE_CLEANUP ? cgroup_make(i->cgroup, "after") : -1;
	struct spawn spawn = {
		.command = c, .cgroup = after >= 0 ? after : i->cgroup, .handshake = -1};

	return fork_command(i, &spawn, ret_pidfd, ret_pipe, e);
}

int instance_adopt_exec_pipe(struct instance *i, int pipe)
{
	i->execed = pipe < 0;
	i->exec_pipe = pipe;
	i->exec_source.ready = exec_ready;
	return pipe < 0 ? 0 : loop_add(&i->exec_source, pipe, EPOLLIN);
}

static void note_fork(
	const struct instance *i, enum fork_role role, enum service_state state, pid_t pid)
{
	struct fork_note n = {.instance = i->number,
		.outside = i->outside,
		.role = role,
		.state = state,
		.command_index = i->service->command_index,
		.pid = pid};

	if (service_forked)
		service_forked(i->service, &n);
}

int instance_start_main(
	struct instance *i, const struct command *c, enum service_state state, struct error *e)
{
	int pidfd = -1, pipe = -1;
	pid_t pid = start_service(i, c, &pidfd, &pipe, e);

	if (pid < 0)
		return pid;
	note_fork(i, i == i->service->incoming ? FORK_INCOMING : FORK_MAIN, state, pid);
	int r = process_watch(&i->main, pid, pidfd);
	if (r < 0) {
		(void)fd_close(pipe);
		return error_set(e, r, "cannot watch process %d", (int)pid);
	}
	r = instance_adopt_exec_pipe(i, pipe);
	return r < 0 ? error_set(e, r, "cannot watch the start of process %d", (int)pid) : 0;
}

static int watch_control(struct instance *i, pid_t pid, int pidfd, int pipe,
	enum service_state state, struct error *e)
{
	note_fork(i, FORK_CONTROL, state, pid);
	/* Read when it has ended: only of the main process do we wait for the exec itself. */
	i->service->control_pipe = pipe;
	int r = process_watch(&i->service->control, pid, pidfd);
	return r < 0 ? error_set(e, r, "cannot watch process %d", (int)pid) : 0;
}

int instance_start_control(
	struct instance *i, const struct command *c, enum service_state state, struct error *e)
{
	int pidfd = -1, pipe = -1;
	pid_t pid = start_command(i, c, state, &pidfd, &pipe, e);

	return pid < 0 ? pid : watch_control(i, pid, pidfd, pipe, state, e);
}

int instance_start_forking(struct instance *i, const struct command *c, struct error *e)
{
	int pidfd = -1, pipe = -1;
	pid_t pid = start_service(i, c, &pidfd, &pipe, e);

	return pid < 0 ? pid : watch_control(i, pid, pidfd, pipe, STATE_STARTING, e);
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
