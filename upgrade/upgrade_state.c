/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/util.h"
#include "services/vote.h"
#include "upgrade/generations.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"

void upgrade_save(struct record_writer *w)
{
	record_begin(w, "upgrade", "");
	/* A plan that is being made is not carried over: its client asks again. */
	record_int(w, "phase", tx.phase == UPGRADE_PLANNING ? UPGRADE_IDLE : tx.phase);
	record_int(w, "last_generation", tx.last_generation);
	sides_save(w);
	record_text(w, "path", tx.path);
	record_text(w, "why", tx.why[0] ? tx.why : NULL);
	record_int(w, "commit_usec", (int64_t)tx.commit_timer.deadline_usec);
	/* A rollback that could not be done yet is still to be done. */
	record_int(w, "retry_usec", (int64_t)tx.retry_timer.deadline_usec);
	record_int(w, "rollback_tries", tx.rollback_tries);
	report_save(w);
	generations_save(w);
	record_end(w);
}

int upgrade_load(const struct record *r, struct error *e)
{
	const char *path = record_get(r, "path"), *why = record_get(r, "why");
	int64_t commit_usec = record_get_int(r, "commit_usec", 0);
	int result;

	tx.phase = (enum upgrade_phase)record_get_int(r, "phase", UPGRADE_IDLE);
	tx.last_generation = (unsigned)record_get_int(r, "last_generation", 1);
	if ((result = sides_load(r, e)) < 0 || (result = generations_load(r, e)) < 0)
		return result;
	report_load(r);
	free(tx.path);
	tx.path = path ? strdup(path) : NULL;
	(void)snprintf(tx.why, sizeof(tx.why), "%s", why ? why : "");
	if (commit_usec > 0)
		timer_set(&tx.commit_timer, (uint64_t)commit_usec);
	tx.rollback_tries = (unsigned)record_get_int(r, "rollback_tries", 0);
	if (record_get_int(r, "retry_usec", 0) > 0)
		timer_set(&tx.retry_timer, (uint64_t)record_get_int(r, "retry_usec", 0));
	return 0;
}

void upgrade_each_fd(int (*visit)(int fd))
{
	sides_each_fd(visit);
	generations_each_fd(visit);
}

/* Crashed before it got to what was to be done at once. True: now it is. */
static bool resume_away(void)
{
	if (tx.phase == UPGRADE_EXECING || tx.phase == UPGRADE_UNDOING_EXEC) {
		tx.exec_wanted = true;
		return true;
	}
	if (tx.phase != UPGRADE_SERVICES)
		return false;
	rollback_after_return(NULL);
	return true;
}

void upgrade_resume(enum life_kind kind, const char *why)
{
	if (kind == LIFE_RETURNED)
		rollback_after_return(why);
	if (kind == LIFE_RETURNED || (kind == LIFE_CRASHED_AWAY && resume_away()))
		return;
	generations_resume();
	if (timer_armed(&tx.retry_timer))
		return; /* a rollback is tried again */
	switch (tx.phase) {
	case UPGRADE_EXECING:
		report_end_phase("exec", false);
		forwards_begin();
		return;
	case UPGRADE_UNDOING_EXEC:
		report_end_phase("exec", false);
		backwards_begin();
		return;
	case UPGRADE_SERVICES:
		forwards_resume();
		return;
	case UPGRADE_UNDOING:
		backwards_resume();
		return;
	case UPGRADE_IDLE:
	case UPGRADE_PLANNING:
		vote_abort(); /* a life that ended while it was asking */
		return;
	case UPGRADE_UNCOMMITTED:
		return;
	}
}
