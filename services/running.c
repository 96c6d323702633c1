/* SPDX-License-Identifier: MIT */
/* What happens to a service that runs. */
#include <stdio.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/life.h"

#define STAYED_UP_USEC (10 * USEC_PER_SEC)

/* RemainAfterExit=: it has done what it is there for, and counts as up until it is stopped. */
static bool stays_up(const struct service *s)
{
	return s->unit->remain_after_exit && s->result == RESULT_SUCCESS &&
	       instance_is_empty(s->current);
}

static void ended(struct service *s)
{
	if (stays_up(s))
		life_set_state(s, STATE_EXITED, USEC_INFINITY);
	else
		life_terminate(s);
}

void act_main_gone(struct service *s)
{
	if (clock_usec() - s->since_usec >= STAYED_UP_USEC)
		s->backoff = 0;
	s->command_index = 0;
	if (!life_ended_well(s, &s->last_exit) && !life_ignores(s, &s->unit->exec_start))
		life_blame_exit(s, "the main process", &s->last_exit);
	else
		log_notice("%s: the main process has ended", s->unit->name);
	ended(s);
}

void act_running_empty(struct service *s)
{
	/* With a known main process its exit is on its way and carries the status. */
	if (s->current->main.pid || s->control.pid)
		return;
	log_notice("%s: its last process has ended", s->unit->name);
	ended(s);
}

static void reloaded(struct service *s)
{
	s->reload = RELOAD_NONE;
	life_forget_control(s);
	life_set_state(s, STATE_RUNNING, USEC_INFINITY);
}

/* No end of the service, so no blame. */
static void reload_failed(struct service *s, const char *how)
{
	(void)snprintf(s->why, sizeof(s->why), "%.200s; it goes on with what it had", how);
	log_warning("%s: %s", s->unit->name, s->why);
	reloaded(s);
}

static void go_on_with_reload(struct service *s)
{
	const struct commands *list = &s->unit->exec_reload;
	struct error e;

	if (s->command_index >= list->count) {
		life_forget_control(s);
		/* Who tells the end of its reload itself is waited for. */
		if (s->reload == RELOAD_NONE)
			reloaded(s);
		return;
	}
	life_forget_control(s);
	if (instance_start_control(
		    s->current, &list->items[s->command_index], STATE_RELOADING, &e) < 0)
		reload_failed(s, e.text);
	else
		life_set_state(s, STATE_RELOADING, s->unit->timeout_start_usec);
}

void act_reload(struct service *s)
{
	s->command_index = 0;
	s->why[0] = '\0';
	if (s->unit->type == SERVICE_NOTIFY_RELOAD) {
		s->reload = RELOAD_ASKED;
		s->reload_asked_usec = clock_usec();
		int r = process_signal(&s->current->main, s->unit->reload_signal);
		if (r < 0) {
			reload_failed(s, "cannot signal the main process");
			return;
		}
		life_set_state(s, STATE_RELOADING, s->unit->timeout_start_usec);
	}
	go_on_with_reload(s);
}

/* RELOADING=1 of a service that reloads by itself. */
void act_reload_begun(struct service *s)
{
	s->why[0] = '\0';
	s->reload = RELOAD_BEGUN;
	s->command_index = s->unit->exec_reload.count; /* none of those is to run */
	life_set_state(s, STATE_RELOADING, s->unit->timeout_start_usec);
}

/* The same while it is being reloaded. */
void act_reload_goes_on(struct service *s)
{
	s->reload = RELOAD_BEGUN;
}

/* READY=1 */
void act_reload_ready(struct service *s)
{
	if (s->reload != RELOAD_BEGUN)
		return;
	s->reload = RELOAD_NONE;
	if (!s->control.pid)
		reloaded(s);
}

void act_reload_done(struct service *s)
{
	char how[64], text[300];

	if (!life_command_succeeded(s, &s->last_exit) && !life_ignores(s, &s->unit->exec_reload)) {
		process_exit_describe(&s->last_exit, how, sizeof(how));
		(void)snprintf(text, sizeof(text), "ExecReload= %s",
			s->exec_failure[0] ? s->exec_failure : how);
		reload_failed(s, text);
		return;
	}
	s->command_index++;
	go_on_with_reload(s);
}

void act_reload_timeout(struct service *s)
{
	bool command = s->control.pid;

	life_kill_control(s);
	reload_failed(s, command ? "ExecReload= took too long and was killed"
				 : "READY=1 did not come in time");
}

void act_watchdog(struct service *s)
{
	life_kill_control(s);
	life_blame(s, RESULT_WATCHDOG, "no WATCHDOG=1 within %llu ms (WatchdogSec=)",
		(unsigned long long)(s->watchdog_usec / USEC_PER_MSEC));
	life_terminate_by(s, s->unit->watchdog_signal);
}
