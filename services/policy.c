/* SPDX-License-Identifier: MIT */
#include "services/policy.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/instance.h"
#include "services/roll.h"
#include "services/successor.h"

/* No event tells that a process has exec'd or written its PID file: look often at first, then less
 * so. */
#define POLL_FAST_USEC (2 * USEC_PER_MSEC)
#define POLL_SLOW_USEC (20 * USEC_PER_MSEC)
#define POLL_FAST_TIMES 100
#define SHORT_USEC (100 * USEC_PER_MSEC)
#define SHORT_TIMES 10
/* What was killed is gone within this. */
#define DRAIN_KILL_USEC (5 * USEC_PER_SEC)

void (*policy_rolled)(struct service *s);
unsigned (*policy_generation_of)(uint64_t mount_id);

void roll_end(struct service *s, enum roll_state state)
{
	s->roll.state = state;
	timer_cancel(&s->roll.timer);
	if (policy_rolled)
		policy_rolled(s);
}

void roll_fail(struct service *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(s->roll.why, sizeof(s->roll.why), format, ap);
	va_end(ap);
	log_error("%s: cannot get onto the image: %s", s->unit->name, s->roll.why);
	policy_abort(s);
	roll_end(s, ROLL_FAILED);
}

void roll_poll_again(struct service *s)
{
	s->roll.poll_count++;
	timer_set(&s->roll.timer,
		deadline_in(
			s->roll.poll_count < POLL_FAST_TIMES ? POLL_FAST_USEC : POLL_SLOW_USEC));
}

bool roll_ask_later(struct service *s)
{
	if (s->roll.n_short == SHORT_TIMES)
		return false;
	s->roll.n_short++;
	s->roll.state = ROLL_SETTLING;
	timer_set(&s->roll.timer, deadline_in(SHORT_USEC));
	return true;
}

static bool settled(const struct service *s)
{
	return service_is_settled(s) && !s->incoming && !s->draining && !s->old_main.pid;
}

static bool must_start(const struct service *s)
{
	return s->roll.was_up && !s->stop_wanted &&
	       (s->state == STATE_INACTIVE || s->state == STATE_FAILED ||
		       s->state == STATE_BACKOFF);
}

static bool nothing_to_do(const struct service *s)
{
	return s->state != STATE_RUNNING || s->unit->policy == POLICY_KEEP ||
	       successor_stands_on(service_main_pid(s), s->roll.target);
}

static void ask(struct service *s)
{
	bool start = must_start(s);

	if (!start && nothing_to_do(s)) {
		roll_end(s, ROLL_DONE);
		return;
	}
	s->roll.state = ROLL_ASKED;
	s->roll.deadline_usec = deadline_in(s->unit->ready_timeout_usec);
	s->roll.poll_count = 0;
	if (start) {
		roll_ask_start(s);
		return;
	}
	switch (s->unit->policy) {
	case POLICY_REEXEC:
		roll_ask_reexec(s);
		return;
	case POLICY_HANDOVER:
		roll_ask_handover(s);
		return;
	case POLICY_RESTART:
		roll_ask_restart(s);
		return;
	case POLICY_KEEP:
		return;
	}
}

/* It is stopped, or has ended, in the middle of its roll. Whoever stopped it has decided; its own
 * end is a failure. */
static void end_of_service(struct service *s)
{
	if (s->stop_wanted)
		roll_end(s, ROLL_DONE);
	else
		roll_fail(s, "it ended when it was to get onto the image%s%s",
			s->why[0] ? ": " : "", s->why);
}

static void check(struct service *s)
{
	if (s->roll.started || s->unit->policy == POLICY_RESTART) {
		roll_check_restart(s);
		return;
	}
	if (!s->current || !service_is_active(s)) {
		end_of_service(s);
		return;
	}
	switch (s->unit->policy) {
	case POLICY_REEXEC:
		roll_check_reexec(s);
		return;
	case POLICY_HANDOVER:
		roll_check_handover(s);
		return;
	case POLICY_RESTART:
	case POLICY_KEEP:
		return;
	}
}

static void fail_late(struct service *s)
{
	unsigned long long msec = s->unit->ready_timeout_usec / USEC_PER_MSEC;

	if (s->roll.state == ROLL_SETTLING && !service_is_settled(s))
		roll_fail(s, "still %s after %llu ms", service_state_name(s->state), msec);
	else if (s->roll.state == ROLL_SETTLING)
		roll_fail(s, "what the upgrade before left behind has not drained within %llu ms",
			msec);
	else
		roll_fail(s, "not ready on the new image within %llu ms (ReadyTimeoutSec=)", msec);
}

/* What serves its last connections keeps the service where it is. On the way back that must not
 * be: better they end than that it stays on an image that was found bad. False if there is none. */
static bool end_draining(struct service *s)
{
	if (s->roll.state != ROLL_SETTLING || s->roll.drain_killed ||
		(!s->draining && !s->old_main.pid))
		return false;
	log_warning("%s: what still drains from before is killed: ReadyTimeoutSec= is over",
		s->unit->name);
	if (s->draining)
		instance_kill(s->draining);
	(void)process_signal(&s->old_main, SIGKILL);
	s->roll.drain_killed = true;
	s->roll.deadline_usec = deadline_in(DRAIN_KILL_USEC);
	return true;
}

static void roll_timer_expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, roll.timer);

	if (clock_usec() >= s->roll.deadline_usec && !end_draining(s))
		fail_late(s);
	else if (s->roll.state == ROLL_ASKED)
		check(s);
	else if (s->roll.state == ROLL_SETTLING && settled(s))
		ask(s);
	else
		roll_poll_again(s);
}

void policy_init(struct service *s)
{
	s->roll.timer.expired = roll_timer_expired;
	s->drain_timer.expired = roll_drain_timer_expired;
	s->old_main.exited = roll_old_main_exited;
}

void policy_roll(struct service *s, uint64_t target)
{
	s->roll.target = target;
	s->roll.why[0] = '\0';
	s->roll.refused = false;
	s->roll.started = s->roll.drain_killed = false;
	s->roll.poll_count = s->roll.n_short = 0;
	s->roll.deadline_usec = deadline_in(s->unit->ready_timeout_usec);
	s->roll.state = ROLL_SETTLING;
	if (s->unit->policy == POLICY_KEEP && !must_start(s)) {
		roll_end(s, ROLL_DONE); /* whatever it is in the middle of */
		return;
	}
	if (settled(s))
		ask(s);
	else
		roll_poll_again(s);
}

void policy_resume(struct service *s)
{
	if (s->roll.state == ROLL_SETTLING || s->roll.state == ROLL_ASKED)
		roll_poll_again(s);
	roll_resume_drain(s);
}

void policy_take_incoming(struct service *s)
{
	s->roll.state = ROLL_ASKED;
	s->roll.why[0] = '\0';
	s->roll.ready_seen = s->roll.refused = s->roll.started = s->roll.drain_killed = false;
	s->roll.poll_count = s->roll.n_short = 0;
	s->roll.deadline_usec = deadline_in(s->unit->ready_timeout_usec);
}

static bool is_on_its_way_up(const struct service *s)
{
	return s->state == STATE_CHECKING || s->state == STATE_PRE || s->state == STATE_STARTING ||
	       s->state == STATE_POST;
}

void policy_abort(struct service *s)
{
	timer_cancel(&s->roll.timer);
	if (s->roll.state == ROLL_ASKED && s->unit->policy == POLICY_REEXEC)
		roll_end_successor(s);
	/* What is still on its way up is the other image's program, and would be for the whole of
	 * TimeoutStartSec=. */
	if (s->roll.state == ROLL_ASKED && s->current && is_on_its_way_up(s))
		instance_kill(s->current);
	if (s->incoming) {
		process_forget(&s->incoming->main);
		instance_kill(s->incoming);
		if (instance_is_empty(s->incoming)) {
			instance_free(s->incoming);
			s->incoming = NULL;
		}
	}
	s->roll.state = ROLL_NONE;
}

bool policy_main_exited(struct service *s)
{
	pid_t pid;

	/* Re-executed by forking, with or without us asking: PIDFile= names who goes on. */
	if (s->unit->type == SERVICE_FORKING && s->state == STATE_RUNNING &&
		instance_read_pid_file(s->current, &pid) == 0 &&
		instance_set_main(s->current, pid) == 0)
		return true;
	return s->roll.state == ROLL_ASKED && s->unit->policy == POLICY_REEXEC &&
	       !instance_is_empty(s->current);
}

void policy_ready(struct service *s, struct instance *i)
{
	if (s->roll.state != ROLL_ASKED)
		return;
	/* What it said before its exec was about the old program. */
	if (i == s->incoming ||
		(s->unit->policy == POLICY_REEXEC &&
			(successor_stands_on(i->main.pid, s->roll.target) || successor_find(s)))) {
		s->roll.ready_seen = true;
		timer_set(&s->roll.timer, clock_usec());
	}
}
