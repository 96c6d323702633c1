/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/log.h"
#include "services/vote.h"
#include "upgrade/generations.h"
#include "upgrade/grafts.h"
#include "upgrade/limbo.h"
#include "upgrade/renamed.h"
#include "upgrade/report.h"
#include "upgrade/settle.h"
#include "upgrade/transaction.h"
#include "upgrade/vault.h"

void upgrade_save(struct record_writer *w)
{
	record_begin(w, "upgrade", "");
	record_int(w, "phase", tx.phase);
	record_int(w, "last_generation", tx.last_generation);
	sides_save(w);
	record_text(w, "path", tx.path);
	record_text(w, "why", tx.why[0] ? tx.why : NULL);
	record_int(w, "commit", tx.commit);
	record_int(w, "commit_within_usec", (int64_t)tx.commit_within_usec);
	record_bool(w, "committed", tx.committed);
	record_bool(w, "restore", tx.restore);
	record_int(w, "release_usec", (int64_t)tx.release_timer.deadline_usec);
	record_int(w, "commit_usec", (int64_t)tx.commit_timer.deadline_usec);
	/* A rollback that could not be done yet is still to be done. */
	record_int(w, "retry_usec", (int64_t)tx.retry_timer.deadline_usec);
	record_int(w, "rollback_tries", tx.rollback_tries);
	/* An exec forgets whom we trace, but the kernel does not. */
	record_int(w, "limbo", !limbo_is_empty());
	settle_save(w);
	report_save(w);
	generations_save(w);
	grafts_save(w);
	renamed_save(w);
	record_end(w);
}

static void load_timer(const struct record *r, const char *key, struct loop_timer *t)
{
	int64_t usec = record_get_int(r, key, 0);

	if (usec > 0)
		timer_set(t, (uint64_t)usec);
}

/* A newer version may know more of them. A person can decide about what this one does not. */
static void load_phase(const struct record *r)
{
	int64_t number = record_get_int(r, "phase", UPGRADE_IDLE);

	tx.phase = (enum upgrade_phase)number;
	if (number >= UPGRADE_IDLE && number <= UPGRADE_RESTORING)
		return;
	log_warning("the state is in a phase of an upgrade that this version does not know (%lld)",
		(long long)number);
	tx.phase = sides.other.generation ? UPGRADE_UNCOMMITTED : UPGRADE_IDLE;
}

static enum commit_choice load_choice(const struct record *r)
{
	int64_t number = record_get_int(r, "commit", COMMIT_AS_CONFIGURED);

	return number == COMMIT_AT_ONCE || number == COMMIT_BY_HAND ? (enum commit_choice)number
								    : COMMIT_AS_CONFIGURED;
}

/* A life before traces somebody still. */
static bool strays;

int upgrade_load(const struct record *r, struct error *e)
{
	const char *path = record_get(r, "path"), *why = record_get(r, "why");
	int result;

	tx.last_generation = (unsigned)record_get_int(r, "last_generation", 1);
	if ((result = sides_load(r, e)) < 0 || (result = generations_load(r, e)) < 0 ||
		(result = grafts_load(r, e)) < 0 || (result = renamed_load(r, e)) < 0)
		return result;
	load_phase(r);
	strays = record_get_int(r, "limbo", 0);
	settle_load(r);
	report_load(r);
	free(tx.path);
	tx.path = path ? strdup(path) : NULL;
	(void)snprintf(tx.why, sizeof(tx.why), "%s", why ? why : "");
	tx.commit = load_choice(r);
	tx.commit_within_usec = (uint64_t)record_get_int(r, "commit_within_usec", 0);
	tx.committed = record_get_bool(r, "committed", false);
	tx.restore = record_get_bool(r, "restore", false);
	tx.rollback_tries = (unsigned)record_get_int(r, "rollback_tries", 0);
	load_timer(r, "commit_usec", &tx.commit_timer);
	load_timer(r, "release_usec", &tx.release_timer);
	load_timer(r, "retry_usec", &tx.retry_timer);
	return 0;
}

void upgrade_each_fd(int (*visit)(int fd))
{
	sides_each_fd(visit);
	generations_each_fd(visit);
	settle_each_fd(visit);
}

/* Crashed before it got to what was to be done at once. True: now it is. */
static bool resume_away(void)
{
	if (tx.phase == UPGRADE_EXECING || tx.phase == UPGRADE_UNDOING_EXEC) {
		begin_exec(tx.phase);
		return true;
	}
	if (tx.phase != UPGRADE_SERVICES)
		return false;
	rollback_after_return(NULL);
	return true;
}

void upgrade_resume(enum life_kind kind, const char *why)
{
	bool crashed = kind == LIFE_CRASHED || kind == LIFE_CRASHED_AWAY;

	sides_let_go_of_former();
	if (crashed || strays)
		limbo_release_strays(tx.tree);
	if (crashed)
		vault_clear(sides.other.generation);
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
	/* Hooks may run twice, and are told so (molt(8)): what the last life began is killed. */
	case UPGRADE_POST:
		checks_begin();
		return;
	case UPGRADE_COMMITTING:
		commit_begin();
		return;
	case UPGRADE_RESTORING:
		restore_begin();
		return;
	case UPGRADE_PLANNING:
	case UPGRADE_PRE:
	case UPGRADE_PREPARING:
		hooks_kill_left_over();
		refuse("PID 1 %s, and everything is as it was before",
			kind == LIFE_NEXT ? "has executed itself" : "crashed");
		return;
	case UPGRADE_IDLE:
		vote_abort(); /* a life of a version that did not write down that it was asking */
		return;
	case UPGRADE_UNCOMMITTED:
		return;
	}
}
