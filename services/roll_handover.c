/* SPDX-License-Identifier: MIT */
/* Policy=handover: a new instance beside the old, which drains once the new one is ready. */
#include <stddef.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/listen.h"
#include "services/policy.h"
#include "services/roll.h"
#include "services/successor.h"
#include "services/watchdog.h"

void roll_ask_handover(struct service *s)
{
	struct error e;

	s->roll.ready_seen = false;
	/* The new image may want other sockets than the old. */
	if (listen_open(s, &e) < 0) {
		roll_fail(s, "%s", e.text);
		return;
	}
	s->incoming = instance_new(s, &e);
	if (s->incoming && instance_start_main(
				   s->incoming, &s->unit->exec_start.items[0], s->state, &e) == 0) {
		roll_poll_again(s);
		return;
	}
	/* It may have been forked, and not be watched: nobody else would end it. */
	if (s->incoming)
		instance_kill(s->incoming);
	instance_free(s->incoming);
	s->incoming = NULL;
	if (!roll_ask_later(s))
		roll_fail(s, "%s", e.text);
}

static void drain(struct service *s, struct instance *old)
{
	s->draining = old;
	s->drain_asked = false;
	if (instance_is_empty(old)) {
		policy_drained(s);
		return;
	}
	/* Not from within the check: it is not at its end, and the state is to be written first. */
	timer_set(&s->drain_timer, clock_usec());
}

/* A life after a crash whose state does not have the new instance as the one that serves would take
 * the end of the old one for that of the service. */
static void ask_to_drain(struct service *s)
{
	if (service_keep)
		service_keep();
	s->drain_asked = true;
	instance_terminate(s->draining);
	timer_set(&s->drain_timer, deadline_in(s->unit->timeout_stop_usec));
}

void policy_ask_to_drain(struct service *s)
{
	if (s->draining && !s->drain_asked)
		ask_to_drain(s);
}

void roll_resume_drain(struct service *s)
{
	if (s->draining)
		timer_set(&s->drain_timer,
			s->drain_asked ? deadline_in(s->unit->timeout_stop_usec) : clock_usec());
}

void roll_check_handover(struct service *s)
{
	struct instance *incoming = s->incoming;
	bool ready;

	if (!incoming) {
		roll_fail(s, "the new instance has gone");
		return;
	}
	ready = service_type_notifies(s->unit->type) ? s->roll.ready_seen : incoming->execed;
	if (!ready) {
		roll_poll_again(s);
		return;
	}
	if (!successor_stands_on(incoming->main.pid, s->roll.target)) {
		roll_fail(s, "the new instance does not run from the image it should");
		return;
	}
	struct instance *old = s->current;
	s->current = incoming;
	s->incoming = NULL;
	watchdog_reset(s);
	watchdog_rearm(s);
	drain(s, old);
	roll_end(s, ROLL_DONE);
}

void policy_drained(struct service *s)
{
	timer_cancel(&s->drain_timer);
	instance_free(s->draining);
	s->draining = NULL;
	log_debug("%s: the old instance has drained", s->unit->name);
	if (service_changed)
		service_changed(s);
}

void roll_drain_timer_expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, drain_timer);

	if (!s->draining)
		return;
	if (!s->drain_asked) {
		ask_to_drain(s);
		return;
	}
	log_warning("%s: the old instance did not drain within its TimeoutStopSec=: killing it",
		s->unit->name);
	instance_kill(s->draining);
}

void policy_incoming_exited(struct service *s, const struct process_exit *ended)
{
	char text[64];

	process_exit_describe(ended, text, sizeof(text));
	if (s->roll.state == ROLL_ASKED)
		roll_fail(s, "the new instance %s before it was ready", text);
}

void policy_incoming_empty(struct service *s)
{
	if (s->roll.state == ROLL_ASKED)
		return; /* the exit of its main process is on its way and says more */
	instance_free(s->incoming);
	s->incoming = NULL;
	if (service_changed)
		service_changed(s);
}

void policy_incoming_execed(struct service *s)
{
	/* Not from within the instance's own event: a failed check frees it. */
	if (s->roll.state == ROLL_ASKED)
		timer_set(&s->roll.timer, clock_usec());
}
