/* SPDX-License-Identifier: MIT */
/* From running, or on the way there, to down: and what comes next. */
#include <signal.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/fdstore.h"
#include "services/instance.h"
#include "services/life.h"
#include "services/watchdog.h"

#define BACKOFF_MAX_USEC (60 * USEC_PER_SEC)

/* Of those lists it is the main process alone that counts. */
static bool main_ended_by(const struct service *s, const struct exit_set *set)
{
	return s->main_exit.known && exit_set_has(set, s->main_exit.signal, s->main_exit.status);
}

static bool wants_restart(const struct service *s)
{
	bool clean = s->result == RESULT_SUCCESS;
	bool abnormal = s->result == RESULT_SIGNAL || s->result == RESULT_TIMEOUT ||
			s->result == RESULT_WATCHDOG;

	if (s->stop_wanted || s->stop_queued || s->result == RESULT_DEPENDENCY ||
		s->result == RESULT_CONDITION || s->result == RESULT_ASSERTION)
		return false;
	if (main_ended_by(s, &s->unit->restart_prevent))
		return false;
	if (main_ended_by(s, &s->unit->restart_force))
		return true;
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
	case RESTART_ON_WATCHDOG:
		return s->result == RESULT_WATCHDOG;
	}
	return false;
}

/* Doubles with each failure in a row, so that a service that cannot start does not eat the machine.
 */
static uint64_t backoff_usec(const struct service *s)
{
	uint64_t delay = s->unit->restart_usec;
	uint64_t limit = delay > BACKOFF_MAX_USEC ? delay : BACKOFF_MAX_USEC;

	if (s->backoff > 0 && delay < USEC_PER_MSEC)
		delay = USEC_PER_MSEC; /* RestartSec=0 is at once, but not for ever */
	for (unsigned i = 0; i < s->backoff && delay < limit; i++)
		delay *= 2;
	return delay < limit ? delay : limit;
}

/* Of a control group that is meant to end as a whole nothing stays, not even what ExecStopPost=
 * left behind. */
static void kill_remains(const struct service *s)
{
	if (s->current && s->unit->kill_mode != KILL_NONE && s->unit->kill_mode != KILL_PROCESS &&
		!instance_is_empty(s->current))
		instance_kill(s->current);
}

void life_finish(struct service *s)
{
	kill_remains(s);
	life_drop_current(s);
	watchdog_stop(s);
	fdstore_stopped(s, (s->restart_wanted && !s->stop_queued) || wants_restart(s));
	if (s->restart_wanted && !s->stop_queued) {
		s->restart_wanted = false;
		service_wait(s); /* in its turn: what it comes after may be on its way too */
	} else if (wants_restart(s)) {
		uint64_t delay = backoff_usec(s);
		s->backoff++;
		life_set_state(s, STATE_BACKOFF, delay);
	} else {
		bool failed = s->result != RESULT_SUCCESS && s->result != RESULT_CONDITION;
		life_set_state(s, failed ? STATE_FAILED : STATE_INACTIVE, USEC_INFINITY);
	}
}

/* The next line of ExecStopPost=, or the end. */
static void go_on_with_cleanup(struct service *s)
{
	if (life_run_control(
		    s, &s->unit->exec_stop_post, STATE_CLEANUP, s->unit->timeout_stop_usec) <= 0)
		life_finish(s);
}

static void clean_up(struct service *s)
{
	s->command_index = 0;
	go_on_with_cleanup(s);
}

/* KillMode=: whether nothing is left that the service's end has to wait for. */
static bool has_ended(const struct service *s)
{
	switch (s->unit->kill_mode) {
	case KILL_CONTROL_GROUP:
	case KILL_MIXED:
		return instance_is_empty(s->current);
	case KILL_PROCESS:
		return !s->current->main.pid && !s->control.pid;
	case KILL_NONE:
		return true;
	}
	return true;
}

static void kill_all(struct service *s)
{
	if (s->unit->kill_mode == KILL_PROCESS) {
		(void)process_signal(&s->current->main, SIGKILL);
		(void)process_signal(&s->control, SIGKILL);
	} else {
		instance_kill(s->current);
	}
	life_set_state(s, STATE_KILLING, KILL_USEC);
}

void life_terminate(struct service *s)
{
	life_terminate_by(s, s->unit->kill_signal);
}

void life_terminate_by(struct service *s, int signal)
{
	timer_cancel(&s->pid_file_timer);
	watchdog_stop(s);
	if (has_ended(s)) {
		clean_up(s);
	} else if (s->unit->kill_mode == KILL_MIXED && !s->current->main.pid && !s->control.pid) {
		kill_all(s);
	} else {
		instance_signal(s->current, signal);
		(void)process_signal(&s->control, SIGTERM);
		life_set_state(s, STATE_TERMINATING, s->unit->timeout_stop_usec);
	}
}

/* What an incoming or draining instance is in the middle of ends with the service. */
static void drop_others(struct service *s)
{
	if (s->incoming)
		instance_kill(s->incoming);
	if (s->draining)
		instance_kill(s->draining);
}

/* The next line of ExecStop=, or the signal. */
static void go_on_with_stop(struct service *s)
{
	if (life_run_control(s, &s->unit->exec_stop, STATE_STOPPING, s->unit->timeout_stop_usec) <=
		0)
		life_terminate(s);
}

void act_stop(struct service *s)
{
	s->stop_wanted = true;
	watchdog_stop(s);
	drop_others(s);
	s->reload = RELOAD_NONE;
	life_kill_control(s); /* a reload is of no use any more */
	s->command_index = 0;
	go_on_with_stop(s);
}

/* No ExecStop= for what never was up. */
void act_stop_early(struct service *s)
{
	s->stop_wanted = true;
	drop_others(s);
	life_terminate(s);
}

void act_stop_idle(struct service *s)
{
	s->stop_wanted = true;
	life_set_state(s, STATE_INACTIVE, USEC_INFINITY);
}

void act_stop_noted(struct service *s)
{
	s->stop_wanted = true;
	s->restart_wanted = false;
}

void act_start_noted(struct service *s)
{
	s->restart_wanted = true;
}

void act_stop_command_done(struct service *s)
{
	(void)life_control_succeeded(s, &s->unit->exec_stop, "ExecStop=");
	s->command_index++;
	go_on_with_stop(s);
}

void act_stop_timeout(struct service *s)
{
	log_warning("%s: ExecStop= took too long and is killed", s->unit->name);
	life_kill_control(s);
	life_terminate(s);
}

static void go_on_terminating(struct service *s)
{
	if (has_ended(s))
		clean_up(s);
	else if (s->unit->kill_mode == KILL_MIXED && !s->current->main.pid && !s->control.pid)
		kill_all(s);
}

void act_terminating_main_exit(struct service *s)
{
	if (!s->stop_wanted && !life_ended_well(s, &s->last_exit))
		life_blame_exit(s, "the main process", &s->last_exit);
	go_on_terminating(s);
}

void act_terminating_exit(struct service *s)
{
	go_on_terminating(s);
}

void act_terminate_timeout(struct service *s)
{
	log_warning("%s: still there %llu ms after its KillSignal=: killing it", s->unit->name,
		(unsigned long long)(s->unit->timeout_stop_usec / USEC_PER_MSEC));
	life_blame(s, RESULT_TIMEOUT, "had to be killed");
	kill_all(s);
}

void act_killing_exit(struct service *s)
{
	if (has_ended(s))
		clean_up(s);
}

void act_kill_timeout(struct service *s)
{
	life_blame(s, RESULT_TIMEOUT,
		"a process does not even end on SIGKILL (uninterruptible sleep?)");
	log_error("%s: giving up on a process that does not end on SIGKILL", s->unit->name);
	clean_up(s);
}

void act_empty(struct service *s)
{
	clean_up(s);
}

void act_cleanup_done(struct service *s)
{
	(void)life_control_succeeded(s, &s->unit->exec_stop_post, "ExecStopPost=");
	s->command_index++;
	go_on_with_cleanup(s);
}

void act_cleanup_timeout(struct service *s)
{
	log_warning("%s: ExecStopPost= took too long and is killed", s->unit->name);
	life_kill_control(s);
	life_finish(s);
}
