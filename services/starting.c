/* SPDX-License-Identifier: MIT */
/* From wanted to running. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/life.h"
#include "services/listen.h"
#include "services/watchdog.h"

#define PID_FILE_POLL_USEC (20 * USEC_PER_MSEC)

static void oneshot_done(struct service *s)
{
	if (s->unit->remain_after_exit) {
		log_info("%s: done", s->unit->name);
		life_set_state(s, STATE_EXITED, USEC_INFINITY);
	} else {
		life_note_started(s, false); /* what its ExecStopPost= takes is no part of it */
		life_terminate(s);
	}
}

static void up(struct service *s)
{
	timer_cancel(&s->pid_file_timer);
	if (s->unit->type == SERVICE_ONESHOT) {
		oneshot_done(s);
		return;
	}
	log_info("%s: running", s->unit->name);
	life_set_state(s, STATE_RUNNING, USEC_INFINITY);
	watchdog_rearm(s);
}

/* The next line of ExecStartPost=, or the end of the start. */
static void go_on_with_post(struct service *s)
{
	int r = life_run_control(
		s, &s->unit->exec_start_post, STATE_POST, s->unit->timeout_start_usec);

	if (r == 0)
		up(s);
	else if (r < 0)
		life_terminate(s);
}

static void become_ready(struct service *s)
{
	s->command_index = 0;
	go_on_with_post(s);
}

static void start_main(struct service *s)
{
	const struct unit *u = s->unit;
	struct error e;
	int r;

	if (s->command_index >= u->exec_start.count) {
		/* A oneshot: no other type can do without ExecStart= or have several. */
		become_ready(s);
		return;
	}
	if (u->type == SERVICE_FORKING) {
		life_forget_control(s);
		r = instance_start_forking(s->current, &u->exec_start.items[0], &e);
	} else {
		r = instance_start_main(
			s->current, &u->exec_start.items[s->command_index], STATE_STARTING, &e);
	}
	if (r < 0) {
		life_blame(s, RESULT_RESOURCES, "%s", e.text);
		life_terminate(s);
		return;
	}
	life_set_state(s, STATE_STARTING, u->timeout_start_usec);
	if (u->type == SERVICE_SIMPLE)
		become_ready(s);
}

void life_resume_start(struct service *s)
{
	bool simple = s->unit->type == SERVICE_SIMPLE;

	if (s->state != STATE_STARTING || !s->current || !s->current->main.pid)
		return;
	/* Its exec pipe went with the life that started it: that it was told is all there is. */
	if (simple || s->unit->type == SERVICE_EXEC)
		become_ready(s);
}

/* The next line of ExecStartPre=, or the main process. */
static void go_on_with_pre(struct service *s)
{
	int r = life_run_control(
		s, &s->unit->exec_start_pre, STATE_PRE, s->unit->timeout_start_usec);

	if (r > 0)
		return;
	s->command_index = 0;
	if (r == 0)
		start_main(s);
	else
		life_terminate(s);
}

void life_begin(struct service *s)
{
	s->command_index = 0;
	go_on_with_pre(s);
}

void act_start(struct service *s)
{
	struct error e;

	if (!s->first.begun_usec)
		s->first.begun_usec = clock_usec();
	s->result = RESULT_SUCCESS;
	s->why[0] = '\0';
	s->stop_wanted = false;
	s->last_exit = s->main_exit = (struct process_exit){0};
	s->status_errno = 0;
	s->bus_error[0] = '\0';
	s->exit_status = -1;
	s->reload = RELOAD_NONE;
	s->notify_access = s->unit->notify_access;
	watchdog_reset(s);
	free(s->status_text);
	s->status_text = NULL;
	if (listen_open(s, &e) < 0 || !(s->current = instance_new(s, &e))) {
		life_blame(s, RESULT_RESOURCES, "%s", e.text);
		life_finish(s);
		return;
	}
	if (!life_check(s))
		life_begin(s);
}

void act_restart_backoff(struct service *s)
{
	s->n_restarts++;
	act_start(s);
}

void act_pre_done(struct service *s)
{
	if (!life_control_succeeded(s, &s->unit->exec_start_pre, "ExecStartPre=")) {
		life_terminate(s);
		return;
	}
	s->command_index++;
	go_on_with_pre(s);
}

/* A daemon that forked has left its main process behind: by PIDFile=, or the only process there is.
 */
static int find_forked_main(struct service *s)
{
	struct pid_array list = {0};
	pid_t pid = 0;
	int r;

	if (s->unit->pid_file) {
		r = instance_read_pid_file(s->current, &pid);
		return r < 0 ? r : instance_set_main(s->current, pid);
	}
	r = instance_pids(s->current, &list);
	if (r == 0 && list.count == 0)
		r = -ESRCH;
	if (r == 0 && list.count == 1)
		pid = list.pids[0];
	pid_array_free(&list);
	return pid ? instance_set_main(s->current, pid) : r;
}

static void look_for_forked_main(struct service *s)
{
	int r = find_forked_main(s);

	if (r == 0) {
		become_ready(s);
		return;
	}
	if (instance_is_empty(s->current)) {
		life_blame(s, RESULT_PROTOCOL, "the started process left no daemon behind");
		life_terminate(s);
		return;
	}
	/* The daemon may write its PID file a moment after its parent has gone; the start's
	 * deadline holds. */
	timer_set(&s->pid_file_timer, deadline_in(PID_FILE_POLL_USEC));
}

void life_pid_file_timer_expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, pid_file_timer);

	if (s->state == STATE_STARTING && s->current)
		look_for_forked_main(s);
}

void act_starting_control_exit(struct service *s)
{
	if (!life_control_succeeded(s, &s->unit->exec_start, "ExecStart=")) {
		life_terminate(s);
		return;
	}
	look_for_forked_main(s);
}

void act_execed(struct service *s)
{
	if (s->unit->type == SERVICE_EXEC)
		become_ready(s);
}

void act_ready(struct service *s)
{
	if (service_type_notifies(s->unit->type))
		become_ready(s);
}

void act_starting_main_exit(struct service *s)
{
	bool clean = life_command_succeeded(s, &s->last_exit);

	if (s->unit->type == SERVICE_ONESHOT && (clean || life_ignores(s, &s->unit->exec_start))) {
		s->command_index++;
		start_main(s);
		return;
	}
	if (!clean)
		life_blame_exit(s, "the main process", &s->last_exit);
	/* Clean or not, it has gone before it was ready. */
	life_blame(s, RESULT_PROTOCOL, "the main process ended before it was ready");
	life_terminate(s);
}

void act_starting_empty(struct service *s)
{
	/* The exit of the process itself is on its way and says more; only a daemon we do not know
	 * the main process of ends with nothing but this. */
	if (!s->control.pid && !s->current->main.pid && s->unit->type == SERVICE_FORKING)
		look_for_forked_main(s);
}

void act_start_timeout(struct service *s)
{
	unsigned long long msec = s->unit->timeout_start_usec / USEC_PER_MSEC;

	if (timer_armed(&s->pid_file_timer))
		life_blame(s, RESULT_TIMEOUT,
			"PIDFile=%s names no process of this service within %llu ms",
			s->unit->pid_file ? s->unit->pid_file : "", msec);
	else
		life_blame(s, RESULT_TIMEOUT, "not ready within %llu ms", msec);
	life_terminate(s);
}

void act_post_done(struct service *s)
{
	if (!life_control_succeeded(s, &s->unit->exec_start_post, "ExecStartPost=")) {
		life_terminate(s);
		return;
	}
	s->command_index++;
	go_on_with_post(s);
}
