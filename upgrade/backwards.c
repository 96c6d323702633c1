/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "conf/protocol.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/service.h"
#include "upgrade/generations.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/rollout.h"
#include "upgrade/transaction.h"

/* Nothing is worse than to stay on an image that was to be left: who is merely in the way for now
 * is waited for much longer than on the way up. */
#define ROLLBACK_TRIES 10
#define ROLLBACK_TRIES_BUSY 60
#define ROLLBACK_RETRY_USEC (500 * USEC_PER_MSEC)
/* And a long blackout is better than none: each try may take longer than the one before. */
#define PATIENCE_MAX 4

/* A service that is not as it was, and what can be done about that; "": all of them are. */
static char not_back[500];

static void rolled_back(const char *but)
{
	char text[1800];

	sides_let_go_of_other();
	(void)snprintf(text, sizeof(text), "rolled back: %s%s%s%s%s", tx.why, but ? "; but " : "",
		but ? but : "", not_back[0] ? "; but " : "", not_back);
	not_back[0] = '\0';
	finish(RESULT_ROLLED_BACK, text);
}

static void restored(const char *failure)
{
	char but[600];

	report_end_phase("commit", false);
	if (failure)
		(void)snprintf(
			but, sizeof(but), "the boot default may be the other image: %s", failure);
	else
		report_progress(
			"the boot default is that of generation %u again (its commit hooks have run)",
			sides.current.generation);
	rolled_back(failure ? but : NULL);
}

void restore_begin(void)
{
	struct error e;

	tx.phase = UPGRADE_RESTORING;
	if (run_hooks(HOOK_COMMIT, -1, restored, &e) < 0)
		restored(e.text);
}

static void describe(const struct service *s)
{
	const char *advice = "is not on that image (see `initctl status`)";

	if (s->state == STATE_FAILED || s->state == STATE_INACTIVE)
		advice = "is down: `initctl start` it once that is mended";
	else if (s->state == STATE_BACKOFF)
		advice = "is down, and is started again by itself";
	(void)snprintf(not_back, sizeof(not_back), "%s %s: %s", s->unit->name, advice, s->roll.why);
	log_error("%s", not_back);
}

static void services_undone(const struct service *failed)
{
	report_end_phase("services", false);
	not_back[0] = '\0';
	if (failed)
		describe(failed);
	if (tx.restore)
		restore_begin();
	else
		rolled_back(NULL);
}

static const struct rollout_hooks BACKWARDS = {report_rolled, services_undone};

void backwards_begin(void)
{
	tx.phase = UPGRADE_UNDOING;
	rollout_begin(sides.current.mount_id, false, &BACKWARDS);
}

void backwards_resume(void)
{
	rollout_resume(sides.current.mount_id, false, &BACKWARDS);
}

/* Everything runs for at least twice as long as it was frozen. */
static uint64_t breathing_space(uint64_t frozen_usec)
{
	return frozen_usec > ROLLBACK_RETRY_USEC / 2 ? usec_add(frozen_usec, frozen_usec)
						     : ROLLBACK_RETRY_USEC;
}

static void rollback_failed(const struct error *e, const struct tries *row)
{
	char text[600];

	if (++tx.rollback_tries < (e->code == -EBUSY ? ROLLBACK_TRIES_BUSY : ROLLBACK_TRIES)) {
		log_warning("cannot roll back yet: %s", e->text);
		timer_set(&tx.retry_timer, deadline_in(breathing_space(row->row_frozen_usec)));
		return;
	}
	/* The new image stays; whoever asked must know that both ways are barred. */
	(void)snprintf(text, sizeof(text),
		"failed: cannot roll back: %s; to be rolled back because: %s", e->text, tx.why);
	log_error("upgrade: %s", text);
	tx.phase = tx.committed ? UPGRADE_IDLE : UPGRADE_UNCOMMITTED;
	tx.committed = tx.restore = false;
	tx.hooks.finished(RESULT_FAILED, text);
}

static void swapped_back(void)
{
	begin_exec(UPGRADE_UNDOING_EXEC);
	tx.hooks.keep();
}

/* One row of tries. */
static int swap_back(struct tries *row, struct error *e)
{
	unsigned patience = tx.rollback_tries + 1;
	struct swap_request q = {.conf = tx.conf,
		.tries = row,
		.patience = patience < PATIENCE_MAX ? patience : PATIENCE_MAX,
		.force = true,
		.swapped = swapped_back};

	tries_begin(row, clock_usec(), USEC_INFINITY);
	e->code = sides_swap_back(&q, e);
	return e->code;
}

void rollback_retry(struct loop_timer *t)
{
	struct tries row;
	struct error e;

	(void)t;
	if (swap_back(&row, &e) < 0)
		rollback_failed(&e, &row);
}

void rollback_begin(void)
{
	log_warning("rolling back to generation %u: %s", sides.other.generation, tx.why);
	report_progress("rolling back: %s", tx.why);
	timer_cancel(&tx.commit_timer);
	timer_cancel(&tx.release_timer);
	rollout_abort();
	tx.rollback_tries = 0;
	rollback_retry(NULL);
}

void upgrade_exec_failed(const char *why)
{
	struct tries row;
	struct error e;

	tx.exec_wanted = false;
	log_error("cannot execute the init of generation %u: %s", sides.current.generation, why);
	if (tx.phase == UPGRADE_UNDOING_EXEC) {
		/* We are the new image's init on the old root: it can finish the job as well. */
		backwards_begin();
		return;
	}
	(void)snprintf(tx.why, sizeof(tx.why), "cannot execute the new init: %s", why);
	tx.rollback_tries = 0;
	if (swap_back(&row, &e) < 0) {
		tx.phase = UPGRADE_UNCOMMITTED;
		rollback_failed(&e, &row);
		return;
	}
	rolled_back(NULL);
}

void rollback_after_return(const char *why)
{
	if (!why)
		why = "could not take over the state";
	generations_resume();
	report_end_phase("exec", false);
	if (tx.phase == UPGRADE_UNDOING_EXEC) {
		log_error(
			"the init of generation %u %s: the one of generation %u goes on in its place",
			sides.current.generation, why, sides.other.generation);
		backwards_begin();
		return;
	}
	if (tx.phase != UPGRADE_SERVICES && tx.phase != UPGRADE_EXECING)
		return;
	(void)snprintf(tx.why, sizeof(tx.why), "the new init %s", why);
	tx.phase = UPGRADE_SERVICES;
	rollback_begin();
}

static int rollback_now(const char *why)
{
	(void)snprintf(tx.why, sizeof(tx.why), "%s", why);
	tx.phase = UPGRADE_SERVICES;
	report_begin();
	rollback_begin();
	return 0;
}

static int rollback_committed(const char *why, struct error *e)
{
	if (!sides.other.generation)
		return error_say(e, EINVAL,
			"nothing to roll back to: generation %u is committed and the one before it released",
			sides.current.generation);
	int r = limbo_refuse(e);
	if (r < 0)
		return r;
	tx.committed = tx.restore = true;
	/* What ran when the upgrade began is of the past: what runs now is to run after. */
	rollout_take_stock();
	return rollback_now(why);
}

int upgrade_rollback(const char *why, struct error *e)
{
	switch (tx.phase) {
	case UPGRADE_IDLE:
		return rollback_committed(why, e);
	case UPGRADE_UNCOMMITTED:
		return rollback_now(why);
	case UPGRADE_PLANNING:
	case UPGRADE_PRE:
	case UPGRADE_PREPARING:
		planning_cancel();
		preparing_cancel();
		refuse("%s", why);
		return 0;
	case UPGRADE_SERVICES:
	case UPGRADE_POST:
		if (timer_armed(&tx.retry_timer))
			break;
		hooks_cancel();
		return rollback_now(why);
	case UPGRADE_EXECING:
	case UPGRADE_COMMITTING: /* half a change of the boot default is worse than either */
	case UPGRADE_UNDOING_EXEC:
	case UPGRADE_UNDOING:
	case UPGRADE_RESTORING:
		break;
	}
	return error_say(e, EBUSY,
		tx.phase == UPGRADE_COMMITTING
			? "busy: the commit hooks run; roll back once it is committed"
			: "busy: it is being rolled back already");
}
