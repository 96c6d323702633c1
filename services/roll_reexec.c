/* SPDX-License-Identifier: MIT */
/* Policy=reexec: it is told to execute itself, by its signal or by the handshake. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/handshake.h"
#include "services/instance.h"
#include "services/policy.h"
#include "services/roll.h"
#include "services/successor.h"

static bool is_ready(const struct service *s, pid_t pid)
{
	if (service_type_notifies(s->unit->type))
		return s->roll.ready_seen;
	/* A server that forks workers writes its PID file before it does: only with workers does it
	 * serve. */
	return pid == s->current->main.pid || !s->roll.preforks || successor_has_children(pid);
}

void roll_old_main_exited(struct process *p, const struct process_exit *ended)
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
		roll_fail(
			s, "cannot watch the new main process %d: %s", (int)new_main, strerror(-r));
		return;
	}
	if (old && process_watch(&s->old_main, old, -1) == 0 && s->unit->reexec_finish_signal)
		(void)process_signal(&s->old_main, s->unit->reexec_finish_signal);
	roll_end(s, ROLL_DONE);
}

void roll_check_reexec(struct service *s)
{
	pid_t main = s->current->main.pid, next;

	if (s->roll.refused) {
		char reason[sizeof(s->roll.why)];
		(void)snprintf(reason, sizeof(reason), "%s", s->roll.why);
		roll_fail(s, "it was told to re-exec and refused: %s", reason);
		return;
	}
	if (successor_stands_on(main, s->roll.target) && is_ready(s, main)) {
		roll_end(s, ROLL_DONE);
		return;
	}
	next = successor_find(s);
	if (next && is_ready(s, next)) {
		succeed_main(s, next);
		return;
	}
	if (!main && !next && instance_is_empty(s->current)) {
		roll_fail(s, "its last process ended when it was asked to re-exec");
		service_event(s, EVENT_MAIN_EXIT);
		return;
	}
	if (successor_has_failed(s)) {
		roll_fail(s,
			"the new main process that it made ended before it was ready (its log may say why)");
		return;
	}
	roll_poll_again(s);
}

static void signal_reexec(struct service *s)
{
	if (!s->unit->reexec_signal) {
		roll_fail(s, s->unit->handshake
				     ? "it has closed its $MOLT_FD, and has no ReexecSignal="
				     : "Policy=reexec without ReexecSignal= or Handshake=yes");
		return;
	}
	int r = process_signal(&s->current->main, s->unit->reexec_signal);
	if (r < 0)
		roll_fail(s, "cannot signal its main process %d: %s", (int)s->current->main.pid,
			strerror(-r));
	else
		roll_poll_again(s);
}

void roll_ask_reexec(struct service *s)
{
	pid_t main = s->current->main.pid;

	if (!main) {
		roll_fail(s, "it has no main process to ask");
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
		roll_fail(s, "cannot tell it to re-exec by $MOLT_FD: %s", strerror(-r));
		return;
	}
	s->current->handshake.ballot.vote = VOTE_NONE;
	roll_poll_again(s);
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

void roll_end_successor(struct service *s)
{
	pid_t pid = s->current ? successor_find(s) : 0;

	/* The old main process is still the service's; the one beside it goes, as if it had never
	 * come. */
	if (pid && pid != s->current->main.pid)
		(void)kill(pid, s->unit->kill_signal);
}
