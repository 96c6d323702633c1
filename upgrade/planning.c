/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/protocol.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/vote.h"
#include "upgrade/judge.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"
#include "upgrade/vault.h"

static const uint64_t BUSY_RETRY_USEC[] = {
	1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 300000, 400000, 500000};

static int image = -1; /* the detached mount of the new root; -1: none yet */
static char *leave; /* a mount that stays on the old one */
static struct loop_timer again_timer;
static unsigned busy_tries;

/* Somebody was in the middle of vfork(2) at each try: its child goes on only while nothing is
 * frozen. */
static bool later(int r)
{
	if (r != -EBUSY || busy_tries == ARRAY_SIZE(BUSY_RETRY_USEC))
		return false;
	timer_set(&again_timer, deadline_in(BUSY_RETRY_USEC[busy_tries++]));
	return true;
}

static void swapped(void)
{
	tx.last_generation = sides.current.generation;
	begin_exec(UPGRADE_EXECING);
	tx.hooks.keep();
}

static void upgrade_now(void)
{
	struct error e;
	struct side to = {.generation = tx.last_generation + 1, .root = image};
	struct swap_request q = {.conf = tx.conf,
		.leave = leave,
		.force = tx.force,
		.swapped = swapped,
		.prepared = tx.hooks.keep};
	int r = sides_swap_to_new(to, &q, &e);

	if (r == 0) {
		image = -1;
	} else if (!later(r)) {
		struct error ignored;
		/* A pivot that was taken back has left the new root in the slot of the old, or
		 * in its own. */
		(void)vault_release(sides.current.generation, &ignored);
		(void)vault_release(to.generation, &ignored);
		image = fd_close(image);
		refuse("%s", e.text);
	}
}

/* The services have said what they think of it; those that agreed are told how it went on in
 * finish(). */
static void voted(const char *refused)
{
	if (refused) {
		image = fd_close(image);
		refuse("%s", refused);
	} else {
		upgrade_now();
	}
}

static void begin_prepare(void)
{
	vote_begin(tx.last_generation + 1, tx.force, voted);
}

static void again_timer_expired(struct loop_timer *t)
{
	if (limbo_is_empty())
		upgrade_now();
	else
		timer_set(
			t, deadline_in(BUSY_RETRY_USEC[0])); /* it is let go when its vfork(2) is
								over, and cannot be seized before */
}

static void judged(const struct judgement *j)
{
	char text[600];

	report_end_phase("plan", false);
	image = j->image;
	leave = j->leave;
	if (j->image >= 0 && (j->n_blockers == 0 || tx.force) && tx.mode == MODE_UPGRADE) {
		if (j->n_blockers > 0)
			log_warning("upgrade forced in spite of: %s", j->blocker);
		begin_prepare();
		return;
	}
	image = fd_close(image);
	if (j->image < 0) {
		refuse("%s", j->unfit);
	} else if (j->n_blockers > 0 && !tx.force) {
		refuse("%s%s", j->blocker,
			j->n_blockers > 1 ? " (and more: see `initctl plan`)" : "");
	} else {
		(void)snprintf(text, sizeof(text), "nothing forbids the upgrade to %s", tx.path);
		finish(RESULT_OK, text);
	}
}

void planning_cancel(void)
{
	if (tx.phase != UPGRADE_PLANNING)
		return;
	timer_cancel(&again_timer);
	judge_cancel();
	image = fd_close(image);
	refuse("the system is going down");
}

int planning_begin(const struct image_options *options, struct error *e)
{
	CLEANUP_FD int state_fd = tx.hooks.snapshot();

	if (state_fd < 0)
		return error_set(e, state_fd, "cannot copy the state for the new init to look at");
	free(leave);
	leave = NULL;
	busy_tries = 0;
	again_timer.expired = again_timer_expired;
	report_begin();
	struct image_request request = {.path = tx.path,
		.options = *options,
		.plan = tx.mode != MODE_UPGRADE,
		.generation = tx.last_generation + 1,
		.state_fd = state_fd,
		.check_usec = tx.conf->check_timeout_usec,
		.tree = tx.tree};
	request.options.default_mount_options = tx.conf->mount_options;
	int r = judge_begin(&request, tx.hooks.emit, judged, e);
	if (r == 0)
		tx.phase = UPGRADE_PLANNING;
	return r;
}
