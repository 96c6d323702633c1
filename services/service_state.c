/* SPDX-License-Identifier: MIT */
/* A service across an exec of PID 1: what it writes down, and how it is taken up again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/fdstore.h"
#include "services/handshake.h"
#include "services/instance.h"
#include "services/listen.h"
#include "services/policy.h"
#include "services/service.h"

/* "NUMBER PID PIDFD EXEC_PIPE": the pipe is -1 once the program runs. */
static void save_instance(struct record_writer *w, const char *key, const struct instance *i)
{
	if (i)
		record_format(w, key, "%u %d %d %d %d", i->number, (int)i->main.pid,
			i->main.pid ? i->main.pidfd : -1, i->exec_pipe, i->outside);
}

/* "FD VOTE ID GENERATION": a vote under way is not carried over, but who said PREPARED waits for a
 * word. */
static void save_handshake(struct record_writer *w, const char *key, const struct instance *i)
{
	if (i && handshake_is_open(i))
		record_format(w, key, "%d %d %llu %u", i->handshake.fd,
			(int)i->handshake.ballot.vote,
			(unsigned long long)i->handshake.ballot.id_usec,
			i->handshake.ballot.generation);
}

/* "FD POLL NAME" */
static void save_stored(struct record_writer *w, const struct service *s)
{
	for (const struct stored_fd *f = s->stored; f; f = f->next)
		record_format(w, "stored", "%d %d %s", f->fd, f->poll, f->name);
}

static void save_process(struct record_writer *w, const char *key, const struct process *p)
{
	if (p->pid)
		record_format(w, key, "%d %d", (int)p->pid, p->pidfd);
}

/* "ASKED BEGUN DONE FAILED" */
static void save_first(struct record_writer *w, const struct first_start *first)
{
	if (first->asked_usec)
		record_format(w, "first_start", "%llu %llu %llu %d",
			(unsigned long long)first->asked_usec,
			(unsigned long long)first->begun_usec, (unsigned long long)first->done_usec,
			first->failed);
}

/* "SIGNAL STATUS" */
static void save_main_exit(struct record_writer *w, const struct process_exit *ended)
{
	if (ended->known)
		record_format(w, "main_exit", "%d %d", ended->signal, ended->status);
}

/*
 * An init that knows of no conditions takes what looks at them for an ExecStartPre= of its own,
 * with the first of the real ones to come next. It runs for some milliseconds, so that will hardly
 * ever be.
 */
static void save_step(struct record_writer *w, const struct service *s)
{
	bool checking = s->state == STATE_CHECKING;

	record_text(w, "state", service_state_name(checking ? STATE_PRE : s->state));
	if (checking)
		record_bool(w, "checking", true);
	record_int(w, "command_index", checking ? -1 : (int64_t)s->command_index);
}

void service_save(const struct service *s, struct record_writer *w)
{
	save_step(w, s);
	record_text(w, "result", service_result_name(s->result));
	record_text(w, "why", s->why[0] ? s->why : NULL);
	record_int(w, "since_usec", (int64_t)s->since_usec);
	save_first(w, &s->first);
	record_int(w, "timer_usec", (int64_t)s->timer.deadline_usec);
	record_int(w, "last_instance", s->last_instance);
	record_int(w, "forks", (int64_t)s->n_forks);
	save_instance(w, "current", s->current);
	save_instance(w, "incoming", s->incoming);
	save_instance(w, "draining", s->draining);
	if (s->draining)
		record_bool(w, "drain_asked", s->drain_asked);
	save_handshake(w, "current_handshake", s->current);
	save_handshake(w, "incoming_handshake", s->incoming);
	save_handshake(w, "draining_handshake", s->draining);
	save_stored(w, s);
	save_process(w, "old_main", &s->old_main);
	if (s->control.pid)
		record_format(w, "control", "%d %d %d", (int)s->control.pid, s->control.pidfd,
			s->control_pipe);
	for (size_t i = 0; i < s->n_listen; i++)
		record_format(w, "listen", "%d %s", s->listen[i].fd, s->listen[i].address);
	for (size_t i = 0; i < s->n_listen; i++)
		if (s->listen[i].rolled)
			record_text(w, "listen_rolled", s->listen[i].address);
	save_main_exit(w, &s->main_exit);
	record_bool(w, "restart_wanted", s->restart_wanted);
	record_bool(w, "stop_wanted", s->stop_wanted);
	record_bool(w, "stop_queued", s->stop_queued);
	record_int(w, "restarts", s->n_restarts);
	record_int(w, "backoff", s->backoff);
	record_text(w, "status", s->status_text);
	record_int(w, "status_errno", s->status_errno);
	record_text(w, "bus_error", s->bus_error[0] ? s->bus_error : NULL);
	record_int(w, "exit_status", s->exit_status);
	record_int(w, "notify_access", s->notify_access);
	record_int(w, "reload", s->reload);
	record_int(w, "reload_asked_usec", (int64_t)s->reload_asked_usec);
	record_int(w, "watchdog_usec", (int64_t)s->watchdog_usec);
	record_int(w, "roll_state", s->roll.state);
	record_int(w, "roll_target", (int64_t)s->roll.target);
	record_int(w, "roll_deadline_usec", (int64_t)s->roll.deadline_usec);
	record_bool(w, "roll_ready_seen", s->roll.ready_seen);
	record_bool(w, "roll_preforks", s->roll.preforks);
	record_bool(w, "roll_was_up", s->roll.was_up);
	record_bool(w, "roll_started", s->roll.started);
	record_text(w, "roll_why", s->roll.why[0] ? s->roll.why : NULL);
}

static int visit_process(const struct process *p, int (*visit)(int fd))
{
	return p->pid ? visit(p->pidfd) : 0;
}

static void visit_instance(const struct instance *i, int (*visit)(int fd))
{
	if (!i)
		return;
	(void)visit_process(&i->main, visit);
	if (i->exec_pipe >= 0)
		(void)visit(i->exec_pipe);
	if (handshake_is_open(i))
		(void)visit(i->handshake.fd);
}

void service_each_fd(const struct service *s, int (*visit)(int fd))
{
	visit_instance(s->current, visit);
	visit_instance(s->incoming, visit);
	visit_instance(s->draining, visit);
	(void)visit_process(&s->old_main, visit);
	(void)visit_process(&s->control, visit);
	if (s->control_pipe >= 0)
		(void)visit(s->control_pipe);
	for (size_t i = 0; i < s->n_listen; i++)
		(void)visit(s->listen[i].fd);
	for (const struct stored_fd *f = s->stored; f; f = f->next)
		(void)visit(f->fd);
}

/* Without its descriptor a process is known by its number and its cgroup together. */
static int adopt(struct service *s, struct process *p, pid_t pid, int pidfd)
{
	bool ours = s->current && instance_owns(s->current, pid);

	return process_adopt(p, pid, identity_take(pidfd), ours);
}

static int load_process(struct service *s, const char *text, struct process *p)
{
	int pid, pidfd;

	if (!text)
		return 0;
	if (sscanf(text, "%d %d", &pid, &pidfd) != 2 || pid <= 0)
		return -EBADMSG;
	return adopt(s, p, pid, pidfd);
}

static int load_control(struct service *s, const char *text)
{
	int pid, pidfd, pipe;

	/* Version 0.1.0 wrote no pipe. */
	if (text && sscanf(text, "%d %d %d", &pid, &pidfd, &pipe) == 3)
		s->control_pipe = identity_take(pipe);
	return load_process(s, text, &s->control);
}

static int load_instance(
	struct service *s, const char *text, struct instance **ret, struct error *e)
{
	unsigned number;
	int pid, pidfd, exec_pipe, outside = 0, r = 0;

	if (!text)
		return 0;
	/* Version 0.1.0 had them all in the tree. */
	if (sscanf(text, "%u %d %d %d %d", &number, &pid, &pidfd, &exec_pipe, &outside) < 4)
		return error_say(e, EBADMSG, "%s: the state's instance \"%s\" makes no sense",
			s->unit->name, text);
	struct instance *i = instance_adopt(s, number, outside, e);
	if (!i)
		return e->code;
	if (pid > 0)
		r = process_adopt(&i->main, pid, identity_take(pidfd), instance_owns(i, pid));
	if (r == 0)
		r = instance_adopt_exec_pipe(i, identity_take(exec_pipe));
	if (r < 0) {
		instance_free(i);
		return error_set(e, r, "%s: cannot watch process %d again", s->unit->name, pid);
	}
	*ret = i;
	return 0;
}

static int load_handshake(struct instance *i, const char *text)
{
	unsigned long long id;
	unsigned generation;
	int fd, vote;

	if (!i || !text)
		return 0;
	if (sscanf(text, "%d %d %llu %u", &fd, &vote, &id, &generation) != 4 || fd < 0)
		return -EBADMSG;
	fd = identity_take(fd);
	if (fd < 0)
		return 0;
	i->handshake.ballot =
		(struct ballot){.vote = (enum vote)vote, .id_usec = id, .generation = generation};
	return handshake_adopt(i, fd);
}

static int load_handshakes(struct service *s, const struct record *r)
{
	int result = load_handshake(s->current, record_get(r, "current_handshake"));

	if (result == 0)
		result = load_handshake(s->incoming, record_get(r, "incoming_handshake"));
	if (result == 0)
		result = load_handshake(s->draining, record_get(r, "draining_handshake"));
	return result;
}

static int load_all_stored(struct service *s, const struct record *r)
{
	const char *text;
	int result = 0;

	for (size_t i = 0; result == 0 && (text = record_get_nth(r, "stored", i)); i++) {
		int fd, poll, at;
		if (sscanf(text, "%d %d %n", &fd, &poll, &at) != 2 || fd < 0)
			return -EBADMSG;
		/* One that was closed just before a crash is gone. */
		if (identity_take(fd) >= 0)
			result = fdstore_adopt(s, text + at, poll, fd);
	}
	return result;
}

static int load_listen(struct service *s, const char *text)
{
	int fd, at;

	if (sscanf(text, "%d %n", &fd, &at) != 1 || fd < 0)
		return -EBADMSG;
	fd = identity_take(fd);
	s->listen_lost = s->listen_lost || fd < 0;
	return fd < 0 ? 0 : listen_adopt(s, text + at, fd);
}

static int load_all_listen(struct service *s, const struct record *r)
{
	const char *text;

	for (size_t i = 0; (text = record_get_nth(r, "listen", i)); i++) {
		int result = load_listen(s, text);
		if (result < 0)
			return result;
	}
	for (size_t i = 0; (text = record_get_nth(r, "listen_rolled", i)); i++)
		for (size_t k = 0; k < s->n_listen; k++)
			if (strcmp(s->listen[k].address, text) == 0)
				s->listen[k].rolled = true;
	return 0;
}

static bool load_state(const char *text, enum service_state *ret)
{
	for (int i = 0; text && i < N_STATES; i++) {
		if (strcmp(service_state_name((enum service_state)i), text) == 0) {
			*ret = (enum service_state)i;
			return true;
		}
	}
	return false;
}

static enum service_result load_result(const char *text)
{
	for (int i = 0; text && i < N_RESULTS; i++)
		if (strcmp(service_result_name((enum service_result)i), text) == 0)
			return (enum service_result)i;
	return RESULT_SUCCESS;
}

static void copy_text(char *buf, size_t size, const char *text)
{
	(void)snprintf(buf, size, "%s", text ? text : "");
}

static struct first_start load_first(const char *text)
{
	unsigned long long asked, begun, done;
	int failed;

	/* Of a service that an init before this version has started nothing is known. */
	if (!text || sscanf(text, "%llu %llu %llu %d", &asked, &begun, &done, &failed) != 4)
		return (struct first_start){0};
	return (struct first_start){asked, begun, done, failed};
}

static struct process_exit load_main_exit(const char *text)
{
	int signal, status;

	if (!text || sscanf(text, "%d %d", &signal, &status) != 2)
		return (struct process_exit){0};
	return (struct process_exit){.known = true, .signal = signal, .status = status};
}

static void load_numbers(struct service *s, const struct record *r)
{
	const char *status = record_get(r, "status");

	s->result = load_result(record_get(r, "result"));
	copy_text(s->why, sizeof(s->why), record_get(r, "why"));
	s->since_usec = (uint64_t)record_get_int(r, "since_usec", (int64_t)clock_usec());
	s->first = load_first(record_get(r, "first_start"));
	s->last_instance = (unsigned)record_get_int(r, "last_instance", 0);
	s->n_forks = (uint64_t)record_get_int(r, "forks", 0);
	s->command_index = (size_t)record_get_int(r, "command_index", 0);
	s->main_exit = load_main_exit(record_get(r, "main_exit"));
	s->restart_wanted = record_get_bool(r, "restart_wanted", false);
	s->stop_wanted = record_get_bool(r, "stop_wanted", false);
	s->stop_queued = record_get_bool(r, "stop_queued", false);
	s->n_restarts = (unsigned)record_get_int(r, "restarts", 0);
	s->backoff = (unsigned)record_get_int(r, "backoff", 0);
	s->status_text = status ? strdup(status) : NULL;
	s->status_errno = (int)record_get_int(r, "status_errno", 0);
	copy_text(s->bus_error, sizeof(s->bus_error), record_get(r, "bus_error"));
	s->exit_status = (int)record_get_int(r, "exit_status", -1);
	s->notify_access =
		(enum notify_access)record_get_int(r, "notify_access", s->unit->notify_access);
	s->reload = (enum reload_step)record_get_int(r, "reload", RELOAD_NONE);
	s->reload_asked_usec = (uint64_t)record_get_int(r, "reload_asked_usec", 0);
	/* A start before this version had none: nobody told it $WATCHDOG_USEC. */
	s->watchdog_usec = (uint64_t)record_get_int(r, "watchdog_usec", 0);
	s->roll.state = (enum roll_state)record_get_int(r, "roll_state", ROLL_NONE);
	s->roll.target = (uint64_t)record_get_int(r, "roll_target", 0);
	s->roll.deadline_usec = (uint64_t)record_get_int(r, "roll_deadline_usec", 0);
	s->roll.ready_seen = record_get_bool(r, "roll_ready_seen", false);
	s->roll.preforks = record_get_bool(r, "roll_preforks", false);
	s->roll.was_up = record_get_bool(r, "roll_was_up", false);
	s->roll.started = record_get_bool(r, "roll_started", false);
	copy_text(s->roll.why, sizeof(s->roll.why), record_get(r, "roll_why"));
}

int service_load(struct service *s, const struct record *r, struct error *e)
{
	int64_t deadline = record_get_int(r, "timer_usec", 0);
	int result;

	if (!load_state(record_get(r, "state"), &s->state))
		return error_say(e, EBADMSG, "%s: the state \"%s\" is not known here",
			s->unit->name, record_get(r, "state") ? record_get(r, "state") : "");
	if (s->state == STATE_PRE && record_get_bool(r, "checking", false))
		s->state = STATE_CHECKING;
	load_numbers(s, r);
	if ((result = load_instance(s, record_get(r, "current"), &s->current, e)) < 0 ||
		(result = load_instance(s, record_get(r, "incoming"), &s->incoming, e)) < 0 ||
		(result = load_instance(s, record_get(r, "draining"), &s->draining, e)) < 0)
		return result;
	/* A version that did not write it told whoever was to drain at once. */
	s->drain_asked = record_get_bool(r, "drain_asked", true);
	if ((result = load_process(s, record_get(r, "old_main"), &s->old_main)) < 0 ||
		(result = load_control(s, record_get(r, "control"))) < 0 ||
		(result = load_all_listen(s, r)) < 0 || (result = load_handshakes(s, r)) < 0 ||
		(result = load_all_stored(s, r)) < 0)
		return error_set(e, result, "%s: cannot take up its state", s->unit->name);
	if (deadline > 0)
		timer_set(&s->timer, (uint64_t)deadline);
	/* Its start had gone that far: only the PID file is missing. */
	if (s->state == STATE_STARTING && s->unit->type == SERVICE_FORKING && s->current &&
		!s->control.pid)
		timer_set(&s->pid_file_timer, clock_usec());
	return 0;
}
