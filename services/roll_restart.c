/* SPDX-License-Identifier: MIT */
/* Policy=restart, and what a rollback starts again. */
#include "services/roll.h"
#include "services/successor.h"

void roll_ask_restart(struct service *s)
{
	s->restart_wanted = true; /* first: the stop may be over at once */
	service_event(s, EVENT_STOP);
	roll_poll_again(s);
}

void roll_ask_start(struct service *s)
{
	s->roll.started = true;
	service_event(s, EVENT_START);
	roll_poll_again(s);
}

void roll_check_restart(struct service *s)
{
	bool failed = s->state == STATE_FAILED || s->state == STATE_BACKOFF;

	if (failed && s->result == RESULT_RESOURCES && s->roll.was_up && roll_ask_later(s))
		return;
	if (failed)
		roll_fail(s, "it did not start again: %s", s->why);
	else if (s->state == STATE_EXITED || (s->state == STATE_RUNNING && !service_main_pid(s)))
		roll_end(s, ROLL_DONE);
	else if (s->state == STATE_INACTIVE && !s->restart_wanted)
		roll_end(
			s, ROLL_DONE); /* somebody has stopped it, or a condition is not met here */
	/* Before its exec the new process is still PID 1's program, which does run from the image.
	 */
	else if (s->state == STATE_RUNNING &&
		 (s->current->execed || s->unit->type == SERVICE_FORKING) &&
		 successor_stands_on(service_main_pid(s), s->roll.target))
		roll_end(s, ROLL_DONE);
	else
		roll_poll_again(s);
}
