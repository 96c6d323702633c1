/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "conf/protocol.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"

static uint64_t commit_within(void)
{
	return tx.commit_within_usec ? tx.commit_within_usec : tx.conf->commit_timeout_usec;
}

void commit_timer_expired(struct loop_timer *t)
{
	unsigned long long msec = commit_within() / USEC_PER_MSEC;

	(void)t;
	(void)snprintf(tx.why, sizeof(tx.why), "nobody committed it within %s (%llu.%03llu s)",
		tx.commit_within_usec ? "--commit-within" : "CommitTimeoutSec=", msec / 1000,
		msec % 1000);
	report_begin();
	tx.phase = UPGRADE_SERVICES;
	rollback_begin();
}

/* -> UNCOMMITTED */
static void wait_for_commit(void)
{
	char text[200];
	uint64_t usec = commit_within();
	int n = snprintf(text, sizeof(text),
		"not committed yet: `initctl commit` keeps it, `initctl rollback` undoes it");

	tx.phase = UPGRADE_UNCOMMITTED;
	if (usec != USEC_INFINITY) {
		timer_set(&tx.commit_timer, deadline_in(usec));
		(void)snprintf(text + n, sizeof(text) - (size_t)n,
			", and so does PID 1 by itself in %llu s",
			(unsigned long long)((usec + USEC_PER_SEC - 1) / USEC_PER_SEC));
	}
	log_notice("generation %u waits for `initctl commit` or `initctl rollback`",
		sides.current.generation);
	tx.hooks.finished(RESULT_OK, text);
}

static void release(void)
{
	unsigned generation = sides.other.generation;

	timer_cancel(&tx.release_timer);
	sides_let_go_of_other();
	log_notice("generation %u is detached: there is no way back to it any more", generation);
}

void release_timer_expired(struct loop_timer *t)
{
	(void)t;
	release();
}

/* The way back stays open for a while. */
static void keep_attached(void)
{
	uint64_t usec = tx.conf->rollback_window_usec;

	if (usec == 0) {
		sides_let_go_of_other();
		return;
	}
	timer_set(&tx.release_timer, deadline_in(usec));
	log_notice("generation %u stays attached%s: `initctl rollback` goes back to it",
		sides.other.generation, usec == USEC_INFINITY ? "" : " for RollbackWindowSec=");
}

static void hooks_done(const char *failure)
{
	report_end_phase("commit", false);
	if (failure) {
		(void)snprintf(tx.why, sizeof(tx.why), "%s", failure);
		rollback_begin();
	} else {
		keep_attached();
		finish(RESULT_OK, "committed");
	}
}

void commit_begin(void)
{
	struct error e;

	timer_cancel(&tx.commit_timer);
	tx.phase = UPGRADE_COMMITTING;
	tx.restore = true;
	if (run_hooks(HOOK_COMMIT, -1, hooks_done, &e) < 0)
		hooks_done(e.text);
}

void commit_or_wait(void)
{
	bool at_once = tx.commit == COMMIT_AS_CONFIGURED ? tx.conf->auto_commit
							 : tx.commit == COMMIT_AT_ONCE;

	if (at_once)
		commit_begin();
	else
		wait_for_commit();
}

int upgrade_commit(struct error *e)
{
	switch (tx.phase) {
	case UPGRADE_UNCOMMITTED:
		report_begin();
		commit_begin();
		return 0;
	case UPGRADE_IDLE:
		return error_say(e, EINVAL, "nothing to commit: no upgrade waits for it");
	case UPGRADE_PLANNING:
	case UPGRADE_PRE:
	case UPGRADE_PREPARING:
	case UPGRADE_EXECING:
	case UPGRADE_SERVICES:
	case UPGRADE_POST:
	case UPGRADE_COMMITTING:
	case UPGRADE_UNDOING_EXEC:
	case UPGRADE_UNDOING:
	case UPGRADE_RESTORING:
		break;
	}
	return error_say(
		e, EBUSY, "busy: an upgrade is under way, and not at the point to commit it");
}

int upgrade_release(struct error *e)
{
	if (tx.phase != UPGRADE_IDLE)
		return error_say(e, EBUSY,
			tx.phase == UPGRADE_UNCOMMITTED
				? "generation %u is not committed yet: `initctl commit` or `initctl rollback` first"
				: "busy: an upgrade of generation %u is under way",
			sides.current.generation);
	if (!sides.other.generation)
		return error_say(e, EINVAL, "nothing to release: no older generation is attached");
	release();
	return 0;
}

struct upgrade_choice upgrade_choice(void)
{
	bool uncommitted = tx.phase == UPGRADE_UNCOMMITTED;
	const struct loop_timer *t = uncommitted ? &tx.commit_timer : &tx.release_timer;

	if (!uncommitted && !(sides.other.generation && tx.phase == UPGRADE_IDLE))
		return (struct upgrade_choice){0};
	return (struct upgrade_choice){.attached = sides.other.generation,
		.committed = !uncommitted,
		.deadline_usec = timer_armed(t) ? t->deadline_usec : 0};
}
