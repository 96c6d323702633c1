/* SPDX-License-Identifier: MIT */
#include "services/service.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/fdstore.h"
#include "services/instance.h"
#include "services/life.h"
#include "services/listen.h"
#include "services/policy.h"
#include "services/spawn.h"
#include "services/watchdog.h"

struct service_world world;
void (*service_changed)(struct service *s);
void (*service_forked)(const struct service *s, const struct fork_note *n);
void (*service_keep)(void);

static const char *const STATE_NAMES[N_STATES] = {
	[STATE_INACTIVE] = "inactive",
	[STATE_WAITING] = "waiting",
	[STATE_CHECKING] = "checking",
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

static const char *const RESULT_NAMES[N_RESULTS] = {
	[RESULT_SUCCESS] = "success",
	[RESULT_EXIT_CODE] = "exit-code",
	[RESULT_SIGNAL] = "signal",
	[RESULT_TIMEOUT] = "timeout",
	[RESULT_RESOURCES] = "resources",
	[RESULT_EXEC] = "exec",
	[RESULT_DEPENDENCY] = "dependency",
	[RESULT_PROTOCOL] = "protocol",
	[RESULT_WATCHDOG] = "watchdog",
	[RESULT_CONDITION] = "condition",
	[RESULT_ASSERTION] = "assertion",
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
	return (s->state == STATE_INACTIVE || s->state == STATE_FAILED) && !s->draining &&
	       !s->incoming;
}

/* Type=simple is up once it is forked, but whoever waits for it is to hear of a program that is not
 * there. */
static bool is_execing(const struct service *s)
{
	return s->current && (s->current->exec_pipe >= 0 || s->result != RESULT_SUCCESS);
}

bool service_is_settled(const struct service *s)
{
	return s->state == STATE_INACTIVE || s->state == STATE_FAILED || s->state == STATE_EXITED ||
	       s->state == STATE_BACKOFF || (s->state == STATE_RUNNING && !is_execing(s));
}

pid_t service_main_pid(const struct service *s)
{
	return s->current ? s->current->main.pid : 0;
}

void act_none(struct service *s)
{
	(void)s;
}

/* The table */

/* A row is to be seen at once. */
/* clang-format off */
static const action TABLE[N_STATES][N_EVENTS] = {
	[STATE_INACTIVE] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_none, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_WAITING] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_stop_idle, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_CHECKING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_check_stop, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_checked, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_check_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_PRE] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop_early, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_pre_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_start_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_STARTING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop_early, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_execed, [EVENT_READY] = act_ready,
		[EVENT_MAIN_EXIT] = act_starting_main_exit,
		[EVENT_CONTROL_EXIT] = act_starting_control_exit, [EVENT_EMPTY] = act_starting_empty,
		[EVENT_TIMEOUT] = act_start_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_POST] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop_early, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_main_gone,
		[EVENT_CONTROL_EXIT] = act_post_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_start_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_watchdog,
	},
	[STATE_RUNNING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop, [EVENT_RELOAD] = act_reload,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_main_gone,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_running_empty,
		[EVENT_TIMEOUT] = act_none,
		[EVENT_RELOADING] = act_reload_begun, [EVENT_WATCHDOG] = act_watchdog,
	},
	[STATE_RELOADING] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_reload_ready, [EVENT_MAIN_EXIT] = act_main_gone,
		[EVENT_CONTROL_EXIT] = act_reload_done, [EVENT_EMPTY] = act_running_empty,
		[EVENT_TIMEOUT] = act_reload_timeout,
		[EVENT_RELOADING] = act_reload_goes_on, [EVENT_WATCHDOG] = act_watchdog,
	},
	[STATE_EXITED] = {
		[EVENT_START] = act_none, [EVENT_STOP] = act_stop, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_STOPPING] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_stop_command_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_stop_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_TERMINATING] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none,
		[EVENT_MAIN_EXIT] = act_terminating_main_exit, [EVENT_CONTROL_EXIT] = act_terminating_exit,
		[EVENT_EMPTY] = act_empty, [EVENT_TIMEOUT] = act_terminate_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_KILLING] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_killing_exit,
		[EVENT_CONTROL_EXIT] = act_killing_exit, [EVENT_EMPTY] = act_empty,
		[EVENT_TIMEOUT] = act_kill_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_CLEANUP] = {
		[EVENT_START] = act_start_noted, [EVENT_STOP] = act_stop_noted, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_cleanup_done, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_cleanup_timeout,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_BACKOFF] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_stop_idle, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none,
		[EVENT_TIMEOUT] = act_restart_backoff,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
	[STATE_FAILED] = {
		[EVENT_START] = act_start, [EVENT_STOP] = act_none, [EVENT_RELOAD] = act_none,
		[EVENT_EXECED] = act_none, [EVENT_READY] = act_none, [EVENT_MAIN_EXIT] = act_none,
		[EVENT_CONTROL_EXIT] = act_none, [EVENT_EMPTY] = act_none, [EVENT_TIMEOUT] = act_none,
		[EVENT_RELOADING] = act_none, [EVENT_WATCHDOG] = act_none,
	},
};
/* clang-format on */

void service_event(struct service *s, enum service_event event)
{
	TABLE[s->state][event](s);
}

bool service_decides(enum service_state state, enum service_event event)
{
	return TABLE[state][event];
}

void service_fail_dependency(struct service *s, const char *reason)
{
	s->result = RESULT_SUCCESS; /* of the run before */
	life_blame(s, RESULT_DEPENDENCY, "not started: %s", reason);
	life_set_state(s, STATE_FAILED, USEC_INFINITY);
}

void service_wait(struct service *s)
{
	s->stop_wanted = false;
	if (!s->first.asked_usec)
		s->first.asked_usec = clock_usec();
	/* Now, so that nobody who starts at the same time finds no socket. Should it fail, its own
	 * start tries again, and says why. */
	struct error e;
	(void)listen_open(s, &e);
	life_set_state(s, STATE_WAITING, USEC_INFINITY);
}

/* Where events come from */

static void timer_expired(struct loop_timer *t)
{
	service_event(CONTAINER_OF(t, struct service, timer), EVENT_TIMEOUT);
}

static void control_exited(struct process *p, const struct process_exit *ended)
{
	struct service *s = CONTAINER_OF(p, struct service, control);

	/* Only now is the pipe's word final: the child may have written it just before its end. */
	if (spawn_read_failure(s->control_pipe, s->exec_failure, sizeof(s->exec_failure)) <= 0)
		s->exec_failure[0] = '\0';
	s->control_pipe = fd_close(s->control_pipe);
	s->last_exit = *ended;
	service_event(s, EVENT_CONTROL_EXIT);
}

void instance_on_main_exit(struct instance *i, const struct process_exit *ended)
{
	struct service *s = i->service;

	if (i == s->current) {
		s->last_exit = *ended;
		/* Who is no child of ours leaves no status: what it said of it stands for it. */
		if (!ended->known && s->exit_status >= 0)
			s->last_exit =
				(struct process_exit){.known = true, .status = s->exit_status};
		s->main_exit = s->last_exit;
		/* A main process that was replaced by a new one of its own making is no end of the
		 * service. */
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
		if (i == s->current && !life_ignores(s, &s->unit->exec_start))
			life_blame(s, RESULT_EXEC, "%s", failure);
		else
			log_warning("%s: %s", s->unit->name, failure);
		return;
	}
	if (service_changed)
		service_changed(s); /* who waited for it to be up waited for this too */
	if (i == s->current)
		service_event(s, EVENT_EXECED);
	else if (i == s->incoming)
		policy_incoming_execed(s);
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
	s->control_pipe = s->exit_status = -1;
	s->pid_file_timer.expired = life_pid_file_timer_expired;
	watchdog_init(s);
	s->notify_access = unit->notify_access;
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
	watchdog_stop(s);
	instance_free(s->incoming);
	instance_free(s->draining);
	life_drop_current(s);
	listen_close(s);
	fdstore_close(s);
	free(s->status_text);
	free(s->after);
	free(s->before);
	unit_free(s->unit);
	free(s);
}
