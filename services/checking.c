/* SPDX-License-Identifier: MIT */
/*
 * Condition...= and Assert...=: looked at before anything of the service is started. A condition
 * that is not met is no failure: the service stays down, and what it was to come before goes on.
 */
#include <stdio.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/check.h"
#include "services/instance.h"
#include "services/life.h"
#include "services/listen.h"

bool life_check(struct service *s)
{
	struct error e;

	if (s->unit->conditions.count == 0)
		return false;
	life_forget_control(s);
	if (instance_start_check(s->current, &e) < 0) {
		life_blame(s, RESULT_RESOURCES, "%s", e.text);
		life_finish(s);
	} else {
		life_set_state(s, STATE_CHECKING, CHECK_USEC);
	}
	return true;
}

/* The line that the child wrote; a crash of PID 1 meanwhile loses it. */
static const char *said(const struct service *s, const char *otherwise)
{
	return s->exec_failure[0] ? s->exec_failure : otherwise;
}

static void stay_down(struct service *s)
{
	s->result = RESULT_CONDITION;
	(void)snprintf(s->why, sizeof(s->why), "not started: %s",
		said(s, "one of its Condition...= is not met"));
	log_notice("%s: %s", s->unit->name, s->why);
	/* Nobody is to queue for what does not come. */
	listen_close(s);
	life_note_started(s, false);
	life_finish(s);
}

void act_checked(struct service *s)
{
	char how[64];

	if (process_exit_clean(&s->last_exit)) {
		life_begin(s);
		return;
	}
	if (s->last_exit.known && !s->last_exit.signal && s->last_exit.status == CHECK_UNMET) {
		stay_down(s);
		return;
	}
	if (s->last_exit.known && !s->last_exit.signal && s->last_exit.status == CHECK_ASSERTION) {
		life_blame(s, RESULT_ASSERTION, "not started: %s",
			said(s, "one of its Assert...= is not met"));
	} else {
		process_exit_describe(&s->last_exit, how, sizeof(how));
		life_blame(
			s, RESULT_RESOURCES, "not started: what looked at its conditions %s", how);
	}
	life_finish(s);
}

/* Nothing of the service runs yet that would have to be asked. */
static void end_look(struct service *s)
{
	instance_kill(s->current);
	life_set_state(s, STATE_KILLING, KILL_USEC);
}

void act_check_stop(struct service *s)
{
	s->stop_wanted = true;
	end_look(s);
}

void act_check_timeout(struct service *s)
{
	life_blame(s, RESULT_TIMEOUT,
		"not started: its conditions could not be looked at within %llu s (a file system that does not answer?)",
		(unsigned long long)(CHECK_USEC / USEC_PER_SEC));
	end_look(s);
}
