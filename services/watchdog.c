/* SPDX-License-Identifier: MIT */
#include "services/watchdog.h"

#include <stddef.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/catalog.h"
#include "services/instance.h"

/* PID 1 itself was late: what was sent to it meanwhile waits to be read. */
#define LATE_USEC (50 * USEC_PER_MSEC)

static void expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, watchdog_timer);

	bool late = clock_usec() > s->watchdog_due_usec + LATE_USEC;

	/* By whomever: PID 1's own freezes are over before its timers are looked at. */
	bool frozen = s->current && instance_is_frozen(s->current);
	/* Its roll has a deadline of its own (ReadyTimeoutSec=). */
	if (late || frozen || s->roll.state == ROLL_SETTLING || s->roll.state == ROLL_ASKED)
		watchdog_rearm(s);
	else
		service_event(s, EVENT_WATCHDOG);
}

void watchdog_init(struct service *s)
{
	s->watchdog_timer.expired = expired;
}

void watchdog_reset(struct service *s)
{
	timer_cancel(&s->watchdog_timer);
	s->watchdog_usec = s->unit->watchdog_usec;
}

void watchdog_stop(struct service *s)
{
	timer_cancel(&s->watchdog_timer);
}

void watchdog_rearm(struct service *s)
{
	bool up =
		s->state == STATE_POST || s->state == STATE_RUNNING || s->state == STATE_RELOADING;

	s->watchdog_due_usec =
		up && s->watchdog_usec ? deadline_in(s->watchdog_usec) : USEC_INFINITY;
	timer_set(&s->watchdog_timer, s->watchdog_due_usec);
}

void watchdog_rearm_all(void)
{
	for (struct service *s = catalog_first(); s; s = s->next)
		watchdog_rearm(s);
}

void watchdog_set(struct service *s, uint64_t usec)
{
	log_debug("%s: its watchdog is now %llu us", s->unit->name, (unsigned long long)usec);
	s->watchdog_usec = usec == USEC_INFINITY ? 0 : usec;
	watchdog_rearm(s);
}
