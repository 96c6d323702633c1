/* SPDX-License-Identifier: MIT */
#include "services/vote.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/log.h"
#include "kernel/util.h"
#include "services/catalog.h"
#include "services/handshake.h"

static struct {
	bool active;
	bool force;
	void (*done)(const char *refused);
	struct loop_timer timer;
	char refused[512];
	uint64_t last_id_usec; /* of the last PREPARE: no two have the same */
} poll;

/* A service may change its mind, but not for ever. */
#define ANSWERS_MAX 8
/* Its end of the socket closes a moment before the service itself is seen to end. */
#define LOST_USEC (200 * USEC_PER_MSEC)

enum ballot_says ballot_read(const struct ballot *b, bool force, uint64_t now_usec)
{
	switch (b->vote) {
	case VOTE_NONE:
	case VOTE_PREPARED:
	case VOTE_LATE:
		return BALLOT_YES;
	case VOTE_REFUSED:
		return force ? BALLOT_YES : BALLOT_NO;
	case VOTE_ASKED:
		return now_usec >= b->deadline_usec ? BALLOT_LATE : BALLOT_WAIT;
	}
	return BALLOT_WAIT;
}

bool ballot_put(struct ballot *b, const struct answer *a)
{
	if (b->vote == VOTE_NONE || a->kind == ANSWER_NONE || b->n_answers >= ANSWERS_MAX)
		return false;
	b->n_answers++;
	if (a->deadline_usec && a->deadline_usec != b->id_usec)
		return true; /* to an earlier question: it has come too late, and counts for nothing
			      */
	if (a->kind == ANSWER_REFUSED)
		b->vote = VOTE_REFUSED;
	else if (b->vote != VOTE_REFUSED)
		b->vote = VOTE_PREPARED;
	return true;
}

static void name_of(const struct service *s, char *buf, size_t size)
{
	int length = (int)strlen(s->unit->name);

	if (ends_with(s->unit->name, ".service"))
		length -= (int)strlen(".service");
	(void)snprintf(buf, size, "%.*s", length, s->unit->name);
}

static void __attribute__((format(printf, 2, 3)))
note(const struct service *s, const char *format, ...)
{
	char name[256], why[300];
	va_list ap;

	name_of(s, name, sizeof(name));
	va_start(ap, format);
	(void)vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	if (poll.force)
		log_warning("upgrade forced in spite of %s: %s", name, why);
	else if (!poll.refused[0])
		(void)snprintf(poll.refused, sizeof(poll.refused), "%s: %s", name, why);
}

static void note_late(const struct service *s, const struct ballot *b)
{
	if (b->lost)
		note(s, "it closed its $MOLT_FD without an answer to PREPARE");
	else
		note(s, "no answer to PREPARE within %llu ms (PrepareTimeoutSec=)",
			(unsigned long long)(s->unit->prepare_timeout_usec / USEC_PER_MSEC));
}

/* NULL: it was not asked, or what was asked has gone. */
static struct ballot *ballot_of(struct service *s)
{
	return s->current && s->current->handshake.ballot.vote != VOTE_NONE
		       ? &s->current->handshake.ballot
		       : NULL;
}

/* `done` may begin another vote. */
static void end(bool refused)
{
	poll.active = false;
	timer_cancel(&poll.timer);
	poll.done(refused ? poll.refused : NULL);
}

/* Returns whether it ends the vote; else *next is when to look again, at the latest. */
static bool is_refusal(struct service *s, struct ballot *b, uint64_t now, uint64_t *next)
{
	switch (ballot_read(b, poll.force, now)) {
	case BALLOT_WAIT:
		*next = b->deadline_usec < *next ? b->deadline_usec : *next;
		return false;
	case BALLOT_YES:
		return false;
	case BALLOT_NO:
		return true;
	case BALLOT_LATE:
		b->vote = VOTE_LATE;
		note_late(s, b);
		return !poll.force;
	}
	return false;
}

static void count(void)
{
	uint64_t now = clock_usec(), next = USEC_INFINITY;

	for (struct service *s = catalog_first(); s; s = s->next) {
		struct ballot *b = ballot_of(s);
		if (b && is_refusal(s, b, now, &next)) {
			end(true);
			return;
		}
	}
	if (next == USEC_INFINITY)
		end(false);
	else
		timer_set(&poll.timer, next);
}

static void timer_expired(struct loop_timer *t)
{
	(void)t;
	if (poll.active)
		count();
}

/* Not from within a service's own event: at the loop's next turn. */
static void count_soon(void)
{
	if (poll.active)
		timer_set(&poll.timer, clock_usec());
}

bool vote_asks(const struct service *s)
{
	return (s->state == STATE_RUNNING || s->state == STATE_RELOADING) && s->current &&
	       handshake_is_open(s->current);
}

static void ask(struct service *s, unsigned generation)
{
	struct ballot *b = &s->current->handshake.ballot;
	uint64_t deadline = deadline_in(s->unit->prepare_timeout_usec);

	if (deadline <= poll.last_id_usec)
		deadline = poll.last_id_usec + 1;
	poll.last_id_usec = deadline;
	*b = (struct ballot){.vote = VOTE_ASKED,
		.deadline_usec = deadline,
		.id_usec = deadline,
		.generation = generation};
	if (handshake_prepare(s->current, generation, deadline) < 0) {
		/* It has left so many packets unread that there is no room for another. */
		log_warning("%s: does not read its $MOLT_FD", s->unit->name);
		b->deadline_usec = clock_usec();
	}
}

void vote_begin(unsigned generation, bool force, void (*done)(const char *refused))
{
	poll.active = true;
	poll.force = force;
	poll.done = done;
	poll.refused[0] = '\0';
	poll.timer.expired = timer_expired;
	for (struct service *s = catalog_first(); s; s = s->next) {
		if (s->current)
			s->current->handshake.ballot = (struct ballot){.vote = VOTE_NONE};
		if (vote_asks(s))
			ask(s, generation);
	}
	count_soon();
}

static bool waits_for_word(const struct ballot *b)
{
	return b && (b->vote == VOTE_ASKED || b->vote == VOTE_PREPARED || b->vote == VOTE_LATE);
}

static void tell_end(int (*tell)(struct instance *i, unsigned generation))
{
	poll.active = false;
	timer_cancel(&poll.timer);
	for (struct service *s = catalog_first(); s; s = s->next) {
		struct ballot *b = ballot_of(s);
		if (!b)
			continue;
		if (waits_for_word(b))
			(void)tell(s->current, b->generation); /* closed or full: nobody listens */
		b->vote = VOTE_NONE;
	}
}

void vote_abort(void)
{
	tell_end(handshake_abort);
}

void vote_commit(void)
{
	tell_end(handshake_commit);
}

bool vote_heard(struct instance *i, const struct answer *a)
{
	struct ballot *b = &i->handshake.ballot;
	enum vote before = b->vote;

	if (!ballot_put(b, a))
		return false;
	if (b->vote == before)
		return true;
	if (!poll.active) {
		/* Who has changed its mind by now waits for its word none the less. */
		log_warning("%s: its answer to PREPARE has come too late", i->service->unit->name);
		if (before != VOTE_REFUSED && b->vote == VOTE_REFUSED)
			b->vote = before;
		return true;
	}
	if (b->vote == VOTE_REFUSED)
		note(i->service, "%s", a->reason);
	count_soon();
	return true;
}

void vote_lost(struct instance *i)
{
	struct ballot *b = &i->handshake.ballot;
	uint64_t soon = deadline_in(LOST_USEC);

	if (b->vote != VOTE_ASKED)
		return;
	b->lost = true;
	if (soon < b->deadline_usec)
		b->deadline_usec = soon;
	count_soon();
}
