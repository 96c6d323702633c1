/* SPDX-License-Identifier: MIT */
#include "services/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/listen.h"
#include "services/policy.h"

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))
#define BACKOFF_MAX_USEC (60 * USEC_PER_SEC)
#define STAYED_UP_USEC (10 * USEC_PER_SEC)
#define PID_FILE_POLL_USEC (20 * USEC_PER_MSEC)

struct service_world world;
void (*service_changed)(struct service *s);

static const char *const STATE_NAMES[N_STATES] = {
	[STATE_INACTIVE] = "inactive",
	[STATE_WAITING] = "waiting",
	[STATE_PRE] = "start-pre",
	[STATE_STARTING] = "starting",
	[STATE_POST] = "start-post",
	[STATE_RUNNING] = "running",
	[STATE_RELOADING] = "reloading",
	[STATE_EXITED] = "exited",
	[STATE_STOPPING] = "stopping",
	[STATE_TERMINATING] = "terminating",
	[STATE_KILLING] = "killing",
	[STATE_CLEANUP] = "stop-post",
	[STATE_BACKOFF] = "backoff",
	[STATE_FAILED] = "failed",
};

static const char *const RESULT_NAMES[] = {
	[RESULT_SUCCESS] = "success",
	[RESULT_EXIT_CODE] = "exit-code",
	[RESULT_SIGNAL] = "signal",
	[RESULT_TIMEOUT] = "timeout",
	[RESULT_RESOURCES] = "resources",
	[RESULT_EXEC] = "exec",
	[RESULT_DEPENDENCY] = "dependency",
	[RESULT_PROTOCOL] = "protocol",
};

const char *service_state_name(enum service_state state)
{
	return STATE_NAMES[state];
}

const char *service_result_name(enum service_result result)
{
	return RESULT_NAMES[result];
}

bool service_is_active(const struct service *s)
{
	return s->state == STATE_RUNNING || s->state == STATE_RELOADING || s->state == STATE_EXITED;
}

bool service_is_down(const struct service *s)
{
	return (s->state == STATE_INACTIVE || s->state == STATE_FAILED) && !s->draining && !s->incoming;
}

bool service_is_settled(const struct service *s)
{
	return s->state == STATE_INACTIVE || s->state == STATE_FAILED || s->state == STATE_RUNNING ||
		s->state == STATE_EXITED || s->state == STATE_BACKOFF;
}

pid_t service_main_pid(const struct service *s)
{
	return s->current ? s->current->main.pid : 0;
}

/* Small verbs on one service */

static void set_state(struct service *s, enum service_state state, uint64_t timeout_usec)
{
	if (s->state != state) {
		log_debug("%s: %s -> %s", s->unit->name, STATE_NAMES[s->state], STATE_NAMES[state]);
		s->state = state;
		s->since_usec = clock_usec();
	}
	timer_set(&s->timer, deadline_in(timeout_usec));
	if (service_changed)
		service_changed(s);
}

static void __attribute__((format(printf, 3, 4)))
blame(struct service *s, enum service_result result, const char *format, ...)
{
	va_list ap;

	/* The first failure is the cause, what follows are its consequences. */
	if (s->result != RESULT_SUCCESS)
		return;
	s->result = result;
	va_start(ap, format);
	(void)vsnprintf(s->why, sizeof(s->why), format, ap);
	va_end(ap);
	log_warning("%s: %s", s->unit->name, s->why);
}

static void blame_exit(struct service *s, const char *what, const struct process_exit *ended)
{
	char text[64];

	process_exit_describe(ended, text, sizeof(text));
	blame(s, ended->signal ? RESULT_SIGNAL : RESULT_EXIT_CODE, "%s %s", what, text);
}

/* systemd.service(5): the signals by which a daemon ends well are SIGHUP, SIGINT, SIGTERM and SIGPIPE. */
static bool ended_well(const struct service *s, const struct process_exit *ended)
{
	if (!ended->known)
		return true;
	if (!ended->signal)
		return ended->status == 0;
	return s->unit->type != SERVICE_ONESHOT &&
		(ended->status == SIGHUP || ended->status == SIGINT || ended->status == SIGTERM ||
			ended->status == SIGPIPE || ended->status == s->unit->kill_signal);
}

static bool wants_restart(const struct service *s)
{
	bool clean = s->result == RESULT_SUCCESS;
	bool abnormal = s->result == RESULT_SIGNAL || s->result == RESULT_TIMEOUT;

	if (s->stop_wanted || s->result == RESULT_DEPENDENCY)
		return false;
	switch (s->unit->restart) {
	case RESTART_NO:
		return false;
	case RESTART_ALWAYS:
		return true;
	case RESTART_ON_SUCCESS:
		return clean;
	case RESTART_ON_FAILURE:
		return !clean;
	case RESTART_ON_ABNORMAL:
		return abnormal;
	case RESTART_ON_ABORT:
		return s->result == RESULT_SIGNAL;
	}
	return false;
}

/* Doubles with each failure in a row, so that a service that cannot start does not eat the machine. */
static uint64_t backoff_usec(const struct service *s)
{
	uint64_t delay = s->unit->restart_usec;
	uint64_t limit = delay > BACKOFF_MAX_USEC ? delay : BACKOFF_MAX_USEC;

	for (unsigned i = 0; i < s->backoff && delay < limit; i++)
		delay *= 2;
	return delay < limit ? delay : limit;
}

static void drop_current(struct service *s)
{
	process_forget(&s->control);
	process_forget(&s->old_main);
	timer_cancel(&s->pid_file_timer);
	instance_free(s->current);
	s->current = NULL;
}

static void act_start(struct service *s);

/* Nothing of the service runs any more: what next? */
static void finish(struct service *s)
{
	drop_current(s);
	if (s->restart_wanted) {
		s->restart_wanted = false;
		act_start(s);
	} else if (wants_restart(s)) {
		uint64_t delay = backoff_usec(s);
		s->backoff++;
		set_state(s, STATE_BACKOFF, delay);
	} else {
		set_state(s, s->result == RESULT_SUCCESS ? STATE_INACTIVE : STATE_FAILED, USEC_INFINITY);
	}
}

static bool run_control(struct service *s, const struct commands *list, enum service_state state, uint64_t timeout)
{
	struct error e;

	if (s->command_index >= list->count)
		return false;
	if (instance_start_control(s->current, &list->items[s->command_index], &e) < 0) {
		blame(s, RESULT_RESOURCES, "%s", e.text);
		return false;
	}
	set_state(s, state, timeout);
	return true;
}

static void kill_all(struct service *s)
{
	process_forget(&s->control);
	instance_kill(s->current);
	set_state(s, STATE_KILLING, 5 * USEC_PER_SEC);
}

static void after_empty(struct service *s)
{
	s->command_index = 0;
	if (!run_control(s, &s->unit->exec_stop_post, STATE_CLEANUP, s->unit->timeout_stop_usec))
		finish(s);
}

static void terminate(struct service *s)
{
	timer_cancel(&s->pid_file_timer);
	if (instance_is_empty(s->current)) {
		after_empty(s);
		return;
	}
	instance_terminate(s->current);
	if (s->control.pid)
		(void)process_signal(&s->control, SIGTERM);
	set_state(s, STATE_TERMINATING, s->unit->timeout_stop_usec);
}

/* What an incoming or draining instance is in the middle of ends with the service. */
static void drop_others(struct service *s)
{
	if (s->incoming)
		instance_kill(s->incoming);
	if (s->draining)
		instance_kill(s->draining);
}

/* Starting, step by step */

static void become_ready(struct service *s)
{
	s->command_index = 0;
	if (run_control(s, &s->unit->exec_start_post, STATE_POST, s->unit->timeout_start_usec))
		return;
	if (s->result != RESULT_SUCCESS) {
		terminate(s);
		return;
	}
	log_info("%s: running", s->unit->name);
	set_state(s, STATE_RUNNING, USEC_INFINITY);
}

static void start_main(struct service *s)
{
	const struct unit *u = s->unit;
	struct error e;
	int r;

	if (u->exec_start.count == 0) {
		become_ready(s);
		return;
	}
	if (u->type == SERVICE_FORKING)
		r = instance_start_control(s->current, &u->exec_start.items[0], &e);
	else
		r = instance_start_main(s->current, &u->exec_start.items[s->command_index], &e);
	if (r < 0) {
		blame(s, RESULT_RESOURCES, "%s", e.text);
		terminate(s);
		return;
	}
	set_state(s, STATE_STARTING, u->timeout_start_usec);
	if (u->type == SERVICE_SIMPLE)
		become_ready(s);
}

static void act_start(struct service *s)
{
	struct error e;

	s->result = RESULT_SUCCESS;
	s->why[0] = '\0';
	s->stop_wanted = false;
	s->last_exit = (struct process_exit){0};
	free(s->status_text);
	s->status_text = NULL;
	if (listen_open(s, &e) < 0 || !(s->current = instance_new(s, &e))) {
		blame(s, RESULT_RESOURCES, "%s", e.text);
		finish(s);
		return;
	}
	s->command_index = 0;
	if (run_control(s, &s->unit->exec_start_pre, STATE_PRE, s->unit->timeout_start_usec))
		return;
	s->command_index = 0;
	if (s->result == RESULT_SUCCESS)
		start_main(s);
	else
		terminate(s);
}

static void act_restart_backoff(struct service *s)
{
	s->n_restarts++;
	act_start(s);
}

/* The control process has ended: did its line of the list allow to go on? */
static bool control_succeeded(struct service *s, const struct commands *list, const char *key)
{
	const struct command *c = s->command_index < list->count ? &list->items[s->command_index] : NULL;

	if (process_exit_clean(&s->last_exit) || (c && c->ignore_failure))
		return true;
	blame_exit(s, key, &s->last_exit);
	return false;
}

static void act_pre_done(struct service *s)
{
	if (!control_succeeded(s, &s->unit->exec_start_pre, "ExecStartPre=")) {
		terminate(s);
		return;
	}
	s->command_index++;
	if (run_control(s, &s->unit->exec_start_pre, STATE_PRE, s->unit->timeout_start_usec))
		return;
	s->command_index = 0;
	if (s->result == RESULT_SUCCESS)
		start_main(s);
	else
		terminate(s);
}

/* A daemon that forked has left its main process behind: by PIDFile=, or the only process there is. */
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
		blame(s, RESULT_PROTOCOL, "the started process left no daemon behind");
		terminate(s);
		return;
	}
	/* The daemon may write its PID file a moment after its parent has gone; the start's deadline holds. */
	timer_set(&s->pid_file_timer, deadline_in(PID_FILE_POLL_USEC));
}

static void pid_file_timer_expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, pid_file_timer);

	if (s->state == STATE_STARTING && s->current)
		look_for_forked_main(s);
}

static void act_starting_control_exit(struct service *s)
{
	if (!control_succeeded(s, &s->unit->exec_start, "ExecStart=")) {
		terminate(s);
		return;
	}
	look_for_forked_main(s);
}

static void act_execed(struct service *s)
{
	if (s->unit->type == SERVICE_EXEC)
		become_ready(s);
}

static void act_ready(struct service *s)
{
	if (s->unit->type == SERVICE_NOTIFY)
		become_ready(s);
}

static void oneshot_done(struct service *s)
{
	s->command_index++;
	if (s->command_index < s->unit->exec_start.count) {
		start_main(s);
		return;
	}
	if (s->unit->remain_after_exit) {
		log_info("%s: done", s->unit->name);
		set_state(s, STATE_EXITED, USEC_INFINITY);
	} else {
		terminate(s);
	}
}

static void act_starting_main_exit(struct service *s)
{
	const struct command *c = &s->unit->exec_start.items[s->command_index];
	bool fine = process_exit_clean(&s->last_exit) || c->ignore_failure;

	if (s->unit->type == SERVICE_ONESHOT && fine) {
		oneshot_done(s);
		return;
	}
	blame_exit(s, "the main process", &s->last_exit);
	/* Clean or not, it has gone before it was ready. */
	blame(s, RESULT_PROTOCOL, "the main process ended before it was ready");
	terminate(s);
}

static void act_starting_empty(struct service *s)
{
	/* The exit of the process itself is on its way and says more; only a daemon we do not know the main process of
	 * ends with nothing but this. */
	if (!s->control.pid && !s->current->main.pid && s->unit->type == SERVICE_FORKING)
		look_for_forked_main(s);
}

static void act_start_timeout(struct service *s)
{
	blame(s, RESULT_TIMEOUT, "not ready within %llu ms",
		(unsigned long long)(s->unit->timeout_start_usec / USEC_PER_MSEC));
	terminate(s);
}

static void act_post_done(struct service *s)
{
	if (!control_succeeded(s, &s->unit->exec_start_post, "ExecStartPost=")) {
		terminate(s);
		return;
	}
	s->command_index++;
	if (run_control(s, &s->unit->exec_start_post, STATE_POST, s->unit->timeout_start_usec))
		return;
	set_state(s, STATE_RUNNING, USEC_INFINITY);
}

/* Running */

static void act_main_gone(struct service *s)
{
	if (clock_usec() - s->since_usec >= STAYED_UP_USEC)
		s->backoff = 0;
	if (!ended_well(s, &s->last_exit))
		blame_exit(s, "the main process", &s->last_exit);
	else if (!s->stop_wanted)
		log_notice("%s: the main process has ended", s->unit->name);
	terminate(s);
}

static void act_running_empty(struct service *s)
{
	/* With a known main process its exit is on its way and carries the status. */
	if (s->current->main.pid || s->control.pid)
		return;
	log_notice("%s: its last process has ended", s->unit->name);
	terminate(s);
}

static void act_reload(struct service *s)
{
	s->command_index = 0;
	if (!run_control(s, &s->unit->exec_reload, STATE_RELOADING, s->unit->timeout_start_usec))
		log_warning("%s: nothing to reload it with: no ExecReload=", s->unit->name);
}

static void act_reload_done(struct service *s)
{
	char text[64];

	if (!process_exit_clean(&s->last_exit)) {
		process_exit_describe(&s->last_exit, text, sizeof(text));
		log_warning("%s: ExecReload= %s; it goes on with what it had", s->unit->name, text);
	} else {
		s->command_index++;
		if (run_control(s, &s->unit->exec_reload, STATE_RELOADING, s->unit->timeout_start_usec))
			return;
	}
	set_state(s, STATE_RUNNING, USEC_INFINITY);
}

static void act_reload_timeout(struct service *s)
{
	log_warning("%s: ExecReload= took too long and is killed", s->unit->name);
	(void)process_signal(&s->control, SIGKILL);
	process_forget(&s->control);
	set_state(s, STATE_RUNNING, USEC_INFINITY);
}

/* Stopping, step by step */

static void act_stop(struct service *s)
{
	s->stop_wanted = true;
	drop_others(s);
	s->command_index = 0;
	if (!run_control(s, &s->unit->exec_stop, STATE_STOPPING, s->unit->timeout_stop_usec))
		terminate(s);
}

/* No ExecStop= for what never was up. */
static void act_stop_early(struct service *s)
{
	s->stop_wanted = true;
	drop_others(s);
	terminate(s);
}

static void act_stop_idle(struct service *s)
{
	s->stop_wanted = true;
	set_state(s, STATE_INACTIVE, USEC_INFINITY);
}

static void act_stop_noted(struct service *s)
{
	s->stop_wanted = true;
	s->restart_wanted = false;
}

static void act_start_noted(struct service *s)
{
	s->restart_wanted = true;
}

static void act_stop_command_done(struct service *s)
{
	(void)control_succeeded(s, &s->unit->exec_stop, "ExecStop=");
	s->command_index++;
	if (!run_control(s, &s->unit->exec_stop, STATE_STOPPING, s->unit->timeout_stop_usec))
		terminate(s);
}

static void act_stop_timeout(struct service *s)
{
	log_warning("%s: ExecStop= took too long", s->unit->name);
	(void)process_signal(&s->control, SIGKILL);
	terminate(s);
}

static void act_terminating_main_exit(struct service *s)
{
	if (!s->stop_wanted && !ended_well(s, &s->last_exit))
		blame_exit(s, "the main process", &s->last_exit);
	if (s->unit->kill_mode == KILL_MIXED && !instance_is_empty(s->current))
		kill_all(s);
	else if (s->unit->kill_mode == KILL_PROCESS)
		after_empty(s);
}

static void act_terminate_timeout(struct service *s)
{
	log_warning("%s: still there %llu ms after its KillSignal=: killing it", s->unit->name,
		(unsigned long long)(s->unit->timeout_stop_usec / USEC_PER_MSEC));
	blame(s, RESULT_TIMEOUT, "had to be killed");
	kill_all(s);
}

static void act_kill_timeout(struct service *s)
{
	blame(s, RESULT_TIMEOUT, "a process does not even end on SIGKILL (uninterruptible sleep?)");
	log_error("%s: giving up on a process that does not end on SIGKILL", s->unit->name);
	after_empty(s);
}

static void act_empty(struct service *s)
{
	after_empty(s);
}

static void act_cleanup_done(struct service *s)
{
	s->command_index++;
	if (!run_control(s, &s->unit->exec_stop_post, STATE_CLEANUP, s->unit->timeout_stop_usec))
		finish(s);
}

static void act_cleanup_timeout(struct service *s)
{
	instance_kill(s->current);
	finish(s);
}

static void act_none(struct service *s)
{
	(void)s;
}

/* The table */

typedef void (*action)(struct service *s);

static const action TABLE[N_STATES][N_EVENTS] = {
	[STATE_INACTIVE] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_none, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
	},
	[STATE_WAITING] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_stop_idle, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
	},
	[STATE_PRE] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop_early, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_pre_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_start_timeout,
	},
	[STATE_STARTING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop_early, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_execed, [EVENT_READY] = act_ready,
		[EVENT_MAIN_EXIT] = act_starting_main_exit,
		[EVENT_CONTROL_EXIT] = act_starting_control_exit, [EVENT_EMPTY] = act_starting_empty,
		[EVENT_TIMEOUT] = act_start_timeout,
	},
	[STATE_POST] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop_early, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_main_gone,
		[EVENT_CONTROL_EXIT] = act_post_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_start_timeout,
	},
	[STATE_RUNNING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop, [EVENT_RELOAD] = act_reload,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_main_gone,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_running_empty,
		[EVENT_TIMEOUT] = act_none,
	},
	[STATE_RELOADING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_main_gone,
		[EVENT_CONTROL_EXIT] = act_reload_done, [EVENT_EMPTY] = act_running_empty,
		[EVENT_TIMEOUT] = act_reload_timeout,
	},
	[STATE_EXITED] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
	},
	[STATE_STOPPING] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_stop_command_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_stop_timeout,
	},
	[STATE_TERMINATING] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none,
		[EVENT_MAIN_EXIT] = act_terminating_main_exit, [EVENT_CONTROL_EXIT] = act_none,
		[EVENT_EMPTY] = act_empty, [EVENT_TIMEOUT] = act_terminate_timeout,
	},
	[STATE_KILLING] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_empty,
		[EVENT_TIMEOUT] = act_kill_timeout,
	},
	[STATE_CLEANUP] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_cleanup_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_cleanup_timeout,
	},
	[STATE_BACKOFF] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_stop_idle, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_restart_backoff,
	},
	[STATE_FAILED] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_none, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
	},
};

void service_event(struct service *s, enum service_event event)
{
	TABLE[s->state][event](s);
}

void service_fail_dependency(struct service *s, const char *dependency)
{
	s->result = RESULT_SUCCESS;
	blame(s, RESULT_DEPENDENCY, "not started: %s, which it Requires=, has failed", dependency);
	set_state(s, STATE_FAILED, USEC_INFINITY);
}

void service_wait(struct service *s)
{
	s->stop_wanted = false;
	set_state(s, STATE_WAITING, USEC_INFINITY);
}

/* Where events come from */

static void timer_expired(struct loop_timer *t)
{
	service_event(CONTAINER_OF(t, struct service, timer), EVENT_TIMEOUT);
}

static void control_exited(struct process *p, const struct process_exit *ended)
{
	struct service *s = CONTAINER_OF(p, struct service, control);

	s->last_exit = *ended;
	service_event(s, EVENT_CONTROL_EXIT);
}

void instance_on_main_exit(struct instance *i, const struct process_exit *ended)
{
	struct service *s = i->service;

	if (i == s->current) {
		s->last_exit = *ended;
		/* A main process that was replaced by a new one of its own making is no end of the service. */
		if (policy_main_exited(s))
			return;
		service_event(s, EVENT_MAIN_EXIT);
	} else if (i == s->incoming) {
		policy_incoming_exited(s, ended);
	}
}

void instance_on_empty(struct instance *i)
{
	struct service *s = i->service;

	if (i == s->current)
		service_event(s, EVENT_EMPTY);
	else if (i == s->draining)
		policy_drained(s);
	else if (i == s->incoming)
		policy_incoming_empty(s);
}

void instance_on_exec(struct instance *i, const char *failure)
{
	struct service *s = i->service;

	if (failure) {
		if (i == s->current)
			blame(s, RESULT_EXEC, "%s", failure);
		else
			log_warning("%s: %s", s->unit->name, failure);
		return;
	}
	if (i == s->current)
		service_event(s, EVENT_EXECED);
	else if (i == s->incoming)
		policy_incoming_execed(s);
}

static void set_status(struct service *s, const char *text)
{
	char *copy = strndup(text, 200);

	if (!copy)
		return; /* an old status is better than none */
	free(s->status_text);
	s->status_text = copy;
}

static void set_main_pid(struct service *s, struct instance *i, const char *value)
{
	pid_t pid;

	if (!parse_pid(value, &pid)) {
		log_warning("%s: MAINPID=%s is no process id", s->unit->name, value);
		return;
	}
	int r = instance_set_main(i, pid);
	if (r < 0)
		log_warning("%s: cannot take MAINPID=%d: %s", s->unit->name, (int)pid,
			r == -EPERM ? "it is not a process of this service" : strerror(-r));
}

void service_notify(struct service *s, unsigned instance, const char *key, const char *value)
{
	struct instance *i = s->incoming && s->incoming->number == instance ? s->incoming :
		s->current && s->current->number == instance		    ? s->current :
									      NULL;

	if (!i)
		return; /* the one that drains has nothing to say any more */
	if (strcmp(key, "MAINPID") == 0) {
		set_main_pid(s, i, value);
	} else if (strcmp(key, "STATUS") == 0) {
		set_status(s, value);
	} else if (strcmp(key, "READY") == 0 && strcmp(value, "1") == 0) {
		policy_ready(s, i);
		if (i == s->current)
			service_event(s, EVENT_READY);
	} else if (strcmp(key, "STOPPING") == 0 && strcmp(value, "1") == 0) {
		log_debug("%s: says that it is stopping", s->unit->name);
	} else if (strcmp(key, "EXTEND_TIMEOUT_USEC") == 0) {
		uint64_t usec;
		if (parse_u64(value, &usec) && timer_armed(&s->timer) &&
			s->timer.deadline_usec < deadline_in(usec))
			timer_set(&s->timer, deadline_in(usec));
	}
}

struct service *service_new(struct unit *unit)
{
	struct service *s = calloc(1, sizeof(*s));

	if (!s) {
		unit_free(unit);
		return NULL;
	}
	s->unit = unit;
	s->since_usec = clock_usec();
	s->control.exited = control_exited;
	s->control.source.fd = s->old_main.source.fd = -1;
	s->timer.expired = timer_expired;
	s->pid_file_timer.expired = pid_file_timer_expired;
	policy_init(s);
	return s;
}

void service_free(struct service *s)
{
	if (!s)
		return;
	timer_cancel(&s->timer);
	timer_cancel(&s->drain_timer);
	timer_cancel(&s->pid_file_timer);
	timer_cancel(&s->roll.timer);
	instance_free(s->incoming);
	instance_free(s->draining);
	drop_current(s);
	listen_close(s);
	free(s->status_text);
	unit_free(s->unit);
	free(s);
}
