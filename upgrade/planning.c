/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "conf/protocol.h"
#include "kernel/close_apart.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/service.h"
#include "upgrade/judge.h"
#include "upgrade/plan.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"

/* What the upgrade before has left in the middle of its last connections gets this long to end
 * them, and is looked at this often. */
#define DRAIN_USEC (3 * USEC_PER_SEC)
#define DRAIN_LOOK_USEC (20 * USEC_PER_MSEC)

static int image = -1; /* the detached mount of the new root; -1: none yet */
static char *leave; /* a mount that stays on the old one */
static struct loop_timer drain_timer;
static uint64_t drain_deadline_usec;

static void drop_image(void)
{
	image = fd_close_apart(image);
	free(leave);
	leave = NULL;
}

static void go_on(void)
{
	char *left = leave;

	leave = NULL;
	preparing_begin(fd_steal(&image), left);
}

/* A service that is in the middle of one change cannot make the next: better said before anything
 * is touched than after. */
static void wait_for_drained(struct loop_timer *t)
{
	pid_t pid;
	const struct service *s = tx.force ? NULL : plan_find_draining(&pid);

	if (!s) {
		go_on();
	} else if (clock_usec() < drain_deadline_usec) {
		timer_set(t, deadline_in(DRAIN_LOOK_USEC));
	} else {
		drop_image();
		refuse("%s still drains: its process %d from before the last upgrade serves on; wait for its end, or end it",
			s->unit->name, (int)pid);
	}
}

static void judged(const struct judgement *j)
{
	char text[600];

	report_end_phase("plan", false);
	image = j->image;
	leave = j->leave;
	if (j->image >= 0 && (j->n_blockers == 0 || tx.force) && tx.mode == MODE_UPGRADE) {
		drain_deadline_usec = deadline_in(DRAIN_USEC);
		wait_for_drained(&drain_timer);
		return;
	}
	drop_image();
	if (j->same) {
		(void)snprintf(text, sizeof(text), "already there: %s", j->unfit);
		finish(RESULT_OK, text);
	} else if (j->image < 0) {
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
	timer_cancel(&drain_timer);
	judge_cancel();
	drop_image();
}

int planning_begin(const struct image_options *options, struct error *e)
{
	CLEANUP_FD int state_fd = tx.hooks.snapshot();

	if (state_fd < 0)
		return error_set(e, state_fd, "cannot copy the state for the new init to look at");
	drain_timer.expired = wait_for_drained;
	report_begin();
	struct image_request request = {.path = tx.path,
		.options = *options,
		.plan = tx.mode != MODE_UPGRADE,
		.carry = tx.conf->carry,
		.carry_directory = tx.conf->carry_directory,
		.generation = tx.last_generation + 1,
		.state_fd = state_fd,
		.check_usec = tx.conf->check_timeout_usec,
		.tree = tx.tree,
		.force = tx.force && tx.mode == MODE_UPGRADE};
	request.options.default_mount_options = tx.conf->mount_options;
	int r = judge_begin(&request, tx.hooks.emit, judged, e);
	if (r == 0)
		tx.phase = UPGRADE_PLANNING;
	return r;
}
