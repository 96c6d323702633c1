/* SPDX-License-Identifier: MIT */
#include "services/instance_start.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "kernel/util.h"
#include "services/check.h"
#include "services/fdstore.h"
#include "services/handshake.h"
#include "services/instance.h"
#include "services/listen.h"
#include "services/output.h"
#include "services/spawn.h"

void instance_close_exec_pipe(struct instance *i)
{
	loop_remove(&i->exec_source);
	i->exec_pipe = fd_close(i->exec_pipe);
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
	instance_close_exec_pipe(i);
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

void instance_main_exited(struct process *p, const struct process_exit *ended)
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
	size_t n = 0;

	for (size_t i = 0; i < s->n_listen; i++) {
		const struct listen_config *l = unit_find_listen(s->unit, s->listen[i].address);
		const char *name = l ? unit_socket_options(s->unit, l)->fd_name : NULL;
		if (l)
			list[n++] =
				(struct passed_fd){s->listen[i].fd, name ? name : s->unit->name};
	}
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
	struct fork_note n = {.number = ++i->service->n_forks,
		.instance = i->number,
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

static void look(const void *unit, int pipe)
{
	check_run(unit, pipe);
}

int instance_start_check(struct instance *i, struct error *e)
{
	int pidfd = -1, pipe = -1;
	pid_t pid = spawn_run(
		i->cgroup, "looking at its conditions", look, i->service->unit, &pidfd, &pipe, e);

	return pid < 0 ? pid : watch_control(i, pid, pidfd, pipe, STATE_CHECKING, e);
}

int instance_start_forking(struct instance *i, const struct command *c, struct error *e)
{
	int pidfd = -1, pipe = -1;
	pid_t pid = start_service(i, c, &pidfd, &pipe, e);

	return pid < 0 ? pid : watch_control(i, pid, pidfd, pipe, STATE_STARTING, e);
}
