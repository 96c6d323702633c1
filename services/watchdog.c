/* SPDX-License-Identifier: MIT */
#include "services/watchdog.h"

#include <stddef.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/catalog.h"

/* PID 1 itself was late: what was sent to it meanwhile waits to be read. */
#define LATE_USEC (50 * USEC_PER_MSEC)

/* By whomever: PID 1's own freezes are over before its timers are looked at. */
static bool is_frozen(const struct service *s)
{
	bool frozen = false;

	return s->current && s->current->events_fd >= 0 &&
	       cgroup_events(s->current->events_fd, NULL, &frozen) == 0 && frozen;
}

static void expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, watchdog_timer);

	bool late = clock_usec() > s->watchdog_due_usec + LATE_USEC;

	/* Its roll has a deadline of its own (ReadyTimeoutSec=). */
	if (late || is_frozen(s) || s->roll.state == ROLL_SETTLING || s->roll.state == ROLL_ASKED)
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
