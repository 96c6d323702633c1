/* SPDX-License-Identifier: MIT */
#include "services/life.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"

void life_note_started(struct service *s, bool failed)
{
	if (!s->first.asked_usec || s->first.done_usec)
		return;
	s->first.done_usec = clock_usec();
	s->first.failed = failed;
}

void life_set_state(struct service *s, enum service_state state, uint64_t timeout_usec)
{
	if (s->state != state) {
		log_debug("%s: %s -> %s", s->unit->name, service_state_name(s->state),
			service_state_name(state));
		s->state = state;
		s->since_usec = clock_usec();
	}
	if (service_is_active(s))
		life_note_started(s, false);
	else if (state == STATE_FAILED || state == STATE_BACKOFF)
		life_note_started(s, true);
	timer_set(&s->timer, deadline_in(timeout_usec));
	if (service_changed)
		service_changed(s);
}

void life_blame(struct service *s, enum service_result result, const char *format, ...)
{
	va_list ap;

	if (s->result != RESULT_SUCCESS)
		return;
	s->result = result;
	va_start(ap, format);
	(void)vsnprintf(s->why, sizeof(s->why), format, ap);
	va_end(ap);
	log_warning("%s: %s", s->unit->name, s->why);
}

void life_blame_exit(struct service *s, const char *what, const struct process_exit *ended)
{
	char text[64], said[256] = "";
	const char *number = s->status_errno ? strerror(s->status_errno) : "";

	process_exit_describe(ended, text, sizeof(text));
	if (*number || s->bus_error[0])
		(void)snprintf(said, sizeof(said), " (%s%s%s)", number,
			*number && s->bus_error[0] ? "; " : "", s->bus_error);
	life_blame(
		s, ended->signal ? RESULT_SIGNAL : RESULT_EXIT_CODE, "%s %s%s", what, text, said);
}

bool life_command_succeeded(const struct service *s, const struct process_exit *ended)
{
	return process_exit_clean(ended) ||
	       (ended->known && exit_set_has(&s->unit->success, ended->signal, ended->status));
}

/* systemd.service(5): the signals by which a daemon ends well are SIGHUP, SIGINT, SIGTERM and
 * SIGPIPE. */
bool life_ended_well(const struct service *s, const struct process_exit *ended)
{
	if (!ended->known || life_command_succeeded(s, ended))
		return true;
	return ended->signal && s->unit->type != SERVICE_ONESHOT &&
	       (ended->status == SIGHUP || ended->status == SIGINT || ended->status == SIGTERM ||
		       ended->status == SIGPIPE || ended->status == s->unit->kill_signal);
}

void life_forget_control(struct service *s)
{
	process_forget(&s->control);
	s->control_pipe = fd_close(s->control_pipe);
}

void life_kill_control(struct service *s)
{
	(void)process_signal(&s->control, SIGKILL);
	life_forget_control(s);
}

void life_drop_current(struct service *s)
{
	life_forget_control(s);
	process_forget(&s->old_main);
	timer_cancel(&s->pid_file_timer);
	instance_free(s->current);
	s->current = NULL;
}

int life_run_control(struct service *s, const struct commands *list, enum service_state state,
	uint64_t timeout_usec)
{
	struct error e;

	if (s->command_index >= list->count)
		return 0;
	life_forget_control(s);
	int r = instance_start_control(s->current, &list->items[s->command_index], state, &e);
	if (r < 0) {
		life_blame(s, RESULT_RESOURCES, "%s", e.text);
		return r;
	}
	life_set_state(s, state, timeout_usec);
	return 1;
}

bool life_ignores(const struct service *s, const struct commands *list)
{
	/* Another image's file may have fewer lines than the one that this began with. */
	return s->command_index < list->count && list->items[s->command_index].ignore_failure;
}

bool life_control_succeeded(struct service *s, const struct commands *list, const char *key)
{
	if (life_command_succeeded(s, &s->last_exit) || life_ignores(s, list))
		return true;
	if (s->exec_failure[0])
		life_blame(s, RESULT_EXEC, "%s %s", key, s->exec_failure);
	else
		life_blame_exit(s, key, &s->last_exit);
	return false;
}
