/* SPDX-License-Identifier: MIT */
#include "services/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/handshake.h"
#include "services/instance.h"
#include "services/listen.h"
#include "services/successor.h"
#include "services/watchdog.h"

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* No event tells that a process has exec'd or written its PID file: look often at first, then less
 * so. */
#define POLL_FAST_USEC (2 * USEC_PER_MSEC)
#define POLL_SLOW_USEC (20 * USEC_PER_MSEC)
#define POLL_FAST_TIMES 100
/* What was killed is gone within this. */
#define DRAIN_KILL_USEC (5 * USEC_PER_SEC)

void (*policy_rolled)(struct service *s);
unsigned (*policy_generation_of)(uint64_t mount_id);

static void end_roll(struct service *s, enum roll_state state)
{
	s->roll.state = state;
	timer_cancel(&s->roll.timer);
	if (policy_rolled)
		policy_rolled(s);
}

static void __attribute__((format(printf, 2, 3))) fail(struct service *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(s->roll.why, sizeof(s->roll.why), format, ap);
	va_end(ap);
	log_error("%s: cannot get onto the image: %s", s->unit->name, s->roll.why);
	policy_abort(s);
	end_roll(s, ROLL_FAILED);
}

static void poll_again(struct service *s)
{
	s->roll.poll_count++;
	timer_set(&s->roll.timer,
		deadline_in(
			s->roll.poll_count < POLL_FAST_TIMES ? POLL_FAST_USEC : POLL_SLOW_USEC));
}

/* reexec */

static bool is_ready(const struct service *s, pid_t pid)
{
	if (service_type_notifies(s->unit->type))
		return s->roll.ready_seen;
	/* A server that forks workers writes its PID file before it does: only with workers does it
	 * serve. */
	return pid == s->current->main.pid || !s->roll.preforks || successor_has_children(pid);
}

static void old_main_exited(struct process *p, const struct process_exit *ended)
{
	(void)ended;
	log_debug("%s: the old main process has ended",
		CONTAINER_OF(p, struct service, old_main)->unit->name);
}

/* The old main process serves no more new requests once told to finish; what it is in the middle
 * of, it ends. */
static void succeed_main(struct service *s, pid_t new_main)
{
	pid_t old = s->current->main.pid;

	int r = instance_set_main(s->current, new_main);
	if (r < 0) {
		fail(s, "cannot watch the new main process %d: %s", (int)new_main, strerror(-r));
		return;
	}
	if (old && process_watch(&s->old_main, old, -1) == 0 && s->unit->reexec_finish_signal)
		(void)process_signal(&s->old_main, s->unit->reexec_finish_signal);
	end_roll(s, ROLL_DONE);
}

static void check_reexec(struct service *s)
{
	pid_t main = s->current->main.pid, next;

	if (s->roll.refused) {
		char reason[sizeof(s->roll.why)];
		(void)snprintf(reason, sizeof(reason), "%s", s->roll.why);
		fail(s, "it was told to re-exec and refused: %s", reason);
		return;
	}
	if (successor_stands_on(main, s->roll.target) && is_ready(s, main)) {
		end_roll(s, ROLL_DONE);
		return;
	}
	next = successor_find(s);
	if (next && is_ready(s, next)) {
		succeed_main(s, next);
		return;
	}
	if (!main && !next && instance_is_empty(s->current)) {
		fail(s, "its last process ended when it was asked to re-exec");
		service_event(s, EVENT_MAIN_EXIT);
		return;
	}
	if (successor_has_failed(s)) {
		fail(s, "the new main process that it made ended before it was ready (its log may say why)");
		return;
	}
	poll_again(s);
}

static void signal_reexec(struct service *s)
{
	if (!s->unit->reexec_signal) {
		fail(s, s->unit->handshake
				? "it has closed its $MOLT_FD, and has no ReexecSignal="
				: "Policy=reexec without ReexecSignal= or Handshake=yes");
		return;
	}
	int r = process_signal(&s->current->main, s->unit->reexec_signal);
	if (r < 0)
		fail(s, "cannot signal its main process %d: %s", (int)s->current->main.pid,
			strerror(-r));
	else
		poll_again(s);
}

static void ask_reexec(struct service *s)
{
	pid_t main = s->current->main.pid;

	if (!main) {
		fail(s, "it has no main process to ask");
		return;
	}
	s->roll.preforks = successor_has_children(main);
	s->roll.ready_seen = false;
	s->roll.successor_seen = false;
	s->roll.successor_gone_usec = 0;
	if (!handshake_is_open(s->current)) {
		signal_reexec(s);
		return;
	}
	int r = handshake_reexec(
		s->current, policy_generation_of ? policy_generation_of(s->roll.target) : 0);
	if (r < 0) {
		fail(s, "cannot tell it to re-exec by $MOLT_FD: %s", strerror(-r));
		return;
	}
	s->current->handshake.ballot.vote = VOTE_NONE;
	poll_again(s);
}

bool policy_refused(struct instance *i, const struct answer *a)
{
	struct service *s = i->service;

	if (a->kind != ANSWER_REFUSED || i != s->current || s->roll.state != ROLL_ASKED ||
		s->unit->policy != POLICY_REEXEC || s->roll.refused)
		return false;
	/* Not from within the instance's own event: a failed roll may end it. */
	s->roll.refused = true;
	(void)snprintf(s->roll.why, sizeof(s->roll.why), "%s", a->reason);
	timer_set(&s->roll.timer, clock_usec());
	return true;
}

/* handover */

static void ask_handover(struct service *s)
{
	struct error e;

	s->roll.ready_seen = false;
	/* The new image may want other sockets than the old. */
	if (listen_open(s, &e) < 0) {
		fail(s, "%s", e.text);
		return;
	}
	s->incoming = instance_new(s, &e);
	if (!s->incoming ||
		instance_start_main(s->incoming, &s->unit->exec_start.items[0], s->state, &e) < 0) {
		fail(s, "%s", e.text);
		return;
	}
	poll_again(s);
}

static void drain(struct service *s, struct instance *old)
{
	s->draining = old;
	if (instance_is_empty(old)) {
		policy_drained(s);
		return;
	}
	instance_terminate(old);
	timer_set(&s->drain_timer, deadline_in(s->unit->timeout_stop_usec));
}

static void check_handover(struct service *s)
{
	struct instance *incoming = s->incoming;
	bool ready;

	if (!incoming) {
		fail(s, "the new instance has gone");
		return;
	}
	ready = service_type_notifies(s->unit->type) ? s->roll.ready_seen : incoming->execed;
	if (!ready) {
		poll_again(s);
		return;
	}
	if (!successor_stands_on(incoming->main.pid, s->roll.target)) {
		fail(s, "the new instance does not run from the image it should");
		return;
	}
	struct instance *old = s->current;
	s->current = incoming;
	s->incoming = NULL;
	watchdog_reset(s);
	watchdog_rearm(s);
	drain(s, old);
	end_roll(s, ROLL_DONE);
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

static void drain_timer_expired(struct loop_timer *t)
{
	struct service *s = CONTAINER_OF(t, struct service, drain_timer);

	if (!s->draining)
		return;
	log_warning("%s: the old instance did not drain within its TimeoutStopSec=: killing it",
		s->unit->name);
	instance_kill(s->draining);
}

void policy_incoming_exited(struct service *s, const struct process_exit *ended)
{
	char text[64];

	process_exit_describe(ended, text, sizeof(text));
	if (s->roll.state == ROLL_ASKED)
		fail(s, "the new instance %s before it was ready", text);
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

/* restart */

static void ask_restart(struct service *s)
{
	s->restart_wanted = true; /* first: the stop may be over at once */
	service_event(s, EVENT_STOP);
	poll_again(s);
}

/* It was up when the upgrade began and did not survive it: the image it is rolled back to has the
 * version that ran. */
static void ask_start(struct service *s)
{
	s->roll.started = true;
	service_event(s, EVENT_START);
	poll_again(s);
}

static void check_restart(struct service *s)
{
	if (s->state == STATE_FAILED || s->state == STATE_BACKOFF)
		fail(s, "it did not start again: %s", s->why);
	else if (s->state == STATE_EXITED || (s->state == STATE_RUNNING && !service_main_pid(s)))
		end_roll(s, ROLL_DONE);
	else if (s->state == STATE_INACTIVE && !s->restart_wanted)
		end_roll(s, ROLL_DONE); /* somebody has stopped it */
	/* Before its exec the new process is still PID 1's program, which does run from the image.
	 */
	else if (s->state == STATE_RUNNING &&
		 (s->current->execed || s->unit->type == SERVICE_FORKING) &&
		 successor_stands_on(service_main_pid(s), s->roll.target))
		end_roll(s, ROLL_DONE);
	else
		poll_again(s);
}

/* All of them */

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
		end_roll(s, ROLL_DONE);
		return;
	}
	s->roll.state = ROLL_ASKED;
	s->roll.deadline_usec = deadline_in(s->unit->ready_timeout_usec);
	s->roll.poll_count = 0;
	if (start) {
		ask_start(s);
		return;
	}
	switch (s->unit->policy) {
	case POLICY_REEXEC:
		ask_reexec(s);
		return;
	case POLICY_HANDOVER:
		ask_handover(s);
		return;
	case POLICY_RESTART:
		ask_restart(s);
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
		end_roll(s, ROLL_DONE);
	else
		fail(s, "it ended when it was to get onto the image%s%s", s->why[0] ? ": " : "",
			s->why);
}

static void check(struct service *s)
{
	if (s->roll.started || s->unit->policy == POLICY_RESTART) {
		check_restart(s);
		return;
	}
	if (!s->current || !service_is_active(s)) {
		end_of_service(s);
		return;
	}
	switch (s->unit->policy) {
	case POLICY_REEXEC:
		check_reexec(s);
		return;
	case POLICY_HANDOVER:
		check_handover(s);
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
		fail(s, "still %s after %llu ms", service_state_name(s->state), msec);
	else if (s->roll.state == ROLL_SETTLING)
		fail(s, "what the upgrade before left behind has not drained within %llu ms", msec);
	else
		fail(s, "not ready on the new image within %llu ms (ReadyTimeoutSec=)", msec);
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
		poll_again(s);
}

void policy_init(struct service *s)
{
	s->roll.timer.expired = roll_timer_expired;
	s->drain_timer.expired = drain_timer_expired;
	s->old_main.exited = old_main_exited;
}

void policy_roll(struct service *s, uint64_t target)
{
	s->roll.target = target;
	s->roll.why[0] = '\0';
	s->roll.refused = false;
	s->roll.started = s->roll.drain_killed = false;
	s->roll.poll_count = 0;
	s->roll.deadline_usec = deadline_in(s->unit->ready_timeout_usec);
	s->roll.state = ROLL_SETTLING;
	if (s->unit->policy == POLICY_KEEP && !must_start(s)) {
		end_roll(s, ROLL_DONE); /* whatever it is in the middle of */
		return;
	}
	if (settled(s))
		ask(s);
	else
		poll_again(s);
}

void policy_resume(struct service *s)
{
	if (s->roll.state == ROLL_SETTLING || s->roll.state == ROLL_ASKED)
		poll_again(s);
	if (s->draining)
		timer_set(&s->drain_timer, deadline_in(s->unit->timeout_stop_usec));
}

static void end_successor(struct service *s)
{
	pid_t pid = s->current ? successor_find(s) : 0;

	/* The old main process is still the service's; the one beside it goes, as if it had never
	 * come. */
	if (pid && pid != s->current->main.pid)
		(void)kill(pid, s->unit->kill_signal);
}

static bool is_on_its_way_up(const struct service *s)
{
	return s->state == STATE_PRE || s->state == STATE_STARTING || s->state == STATE_POST;
}

void policy_abort(struct service *s)
{
	timer_cancel(&s->roll.timer);
	if (s->roll.state == ROLL_ASKED && s->unit->policy == POLICY_REEXEC)
		end_successor(s);
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
