/* SPDX-License-Identifier: MIT */
#include "upgrade/rollout.h"

#include <stddef.h>

#include "kernel/util.h"
#include "services/graph.h"
#include "services/policy.h"
#include "services/set.h"

static const struct rollout_hooks *hooks;
static bool active, stop_on_failure;
static uint64_t target;
static struct loop_timer turn;

static bool ended(const struct service *s)
{
	return s->roll.state == ROLL_DONE || s->roll.state == ROLL_FAILED ||
	       s->roll.state == ROLL_NONE;
}

static const struct service *first_failed(void)
{
	for (const struct service *s = set_first(); s; s = s->next)
		if (s->roll.state == ROLL_FAILED)
			return s;
	return NULL;
}

static bool must_wait(const struct service *s)
{
	for (const struct service *o = set_first(); o; o = o->next)
		if (o->order < s->order && !ended(o) && graph_is_after(s->unit, o->unit))
			return true;
	return false;
}

static void begin_what_may(void)
{
	for (struct service *s = set_first(); s; s = s->next)
		if (s->roll.state == ROLL_WAITING && !must_wait(s))
			policy_roll(s, target);
}

static void cancel_waiting(void)
{
	for (struct service *s = set_first(); s; s = s->next)
		if (s->roll.state == ROLL_WAITING)
			s->roll.state = ROLL_NONE;
}

static bool all_ended(void)
{
	for (const struct service *s = set_first(); s; s = s->next)
		if (!ended(s))
			return false;
	return true;
}

static void take_turn(struct loop_timer *t)
{
	(void)t;
	if (!active)
		return;
	if (stop_on_failure && first_failed())
		cancel_waiting();
	begin_what_may();
	if (!all_ended())
		return;
	active = false;
	hooks->done(first_failed());
}

/* Not from within the policy that reports: at the loop's next turn. */
static void service_rolled(struct service *s)
{
	if (!active)
		return;
	hooks->rolled(s);
	timer_set(&turn, clock_usec());
}

static void start(bool stop, const struct rollout_hooks *h)
{
	hooks = h;
	stop_on_failure = stop;
	active = true;
	policy_rolled = service_rolled;
	turn.expired = take_turn;
	timer_set(&turn, clock_usec());
}

void rollout_take_stock(void)
{
	for (struct service *s = set_first(); s; s = s->next)
		s->roll.was_up = s->state == STATE_RUNNING;
}

void rollout_begin(uint64_t target_mount, bool stop, const struct rollout_hooks *h)
{
	target = target_mount;
	if (stop)
		rollout_take_stock();
	for (struct service *s = set_first(); s; s = s->next)
		s->roll.state = ROLL_WAITING;
	start(stop, h);
}

void rollout_resume(uint64_t target_mount, bool stop, const struct rollout_hooks *h)
{
	target = target_mount;
	/* What was begun just before a crash was taken up from a note that does not have it. */
	for (struct service *s = set_first(); s; s = s->next)
		s->roll.target = target_mount;
	start(stop, h);
}

void rollout_abort(void)
{
	active = false;
	timer_cancel(&turn);
	for (struct service *s = set_first(); s; s = s->next)
		if (!ended(s))
			policy_abort(s);
}
