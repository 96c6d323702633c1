/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "kernel/close_apart.h"
#include "kernel/util.h"
#include "services/vote.h"
#include "upgrade/grafts.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"

#define LIMBO_LOOK_USEC USEC_PER_MSEC

static int image = -1; /* the detached mount of the new root; -1: none */
static char *leave; /* a mount that stays on the old one */
static struct loop_timer again_timer;
static struct tries tries;
static struct error last; /* why it has to be tried again */

static void drop_image(void)
{
	if (image >= 0) {
		sides_forget_new(tx.last_generation + 1);
		grafts_forget(tx.last_generation + 1);
	}
	image = fd_close_apart(image);
	free(leave);
	leave = NULL;
}

/* Somebody was in the way at each try, in vfork(2) perhaps: its child goes on only while nothing is
 * frozen. */
static bool later(const struct error *e)
{
	uint64_t now = clock_usec();

	if (e->code != -EBUSY || tries_over(&tries, now))
		return false;
	last = *e;
	timer_set(&again_timer, usec_add(now, tries_pause(&tries, now)));
	return true;
}

static void swapped(void)
{
	tx.last_generation = sides.current.generation;
	/* The one that was attached is let go: there is room for one beside the root. */
	timer_cancel(&tx.release_timer);
	begin_exec(UPGRADE_EXECING);
	tx.hooks.keep();
}

static void give_up(const struct error *e)
{
	uint64_t msec = (clock_usec() - tries.began_usec) / USEC_PER_MSEC;

	drop_image();
	if (e->code == -EBUSY)
		refuse("%s; tried %u times in %llu.%llu s (RetryTimeoutSec=)", e->text, tries.count,
			(unsigned long long)(msec / 1000), (unsigned long long)(msec / 100 % 10));
	else
		refuse("%s", e->text);
}

static void swap_now(void)
{
	struct error e;
	struct side to = {.generation = tx.last_generation + 1, .root = image};
	struct swap_request q = {.conf = tx.conf,
		.leave = leave,
		.tries = &tries,
		.patience = 1,
		.force = tx.force,
		.swapped = swapped,
		.prepared = tx.hooks.keep};

	e.code = sides_swap_to_new(to, &q, &e);
	if (e.code == 0)
		image = -1;
	else if (!later(&e))
		give_up(&e);
}

static void again_timer_expired(struct loop_timer *t)
{
	if (limbo_is_empty())
		swap_now();
	else if (tries_over(&tries, clock_usec()))
		give_up(&last);
	else /* it is let go when its vfork(2) is over, and cannot be seized before */
		timer_set(t, deadline_in(LIMBO_LOOK_USEC));
}

/* The services have said what they think of it; those that agreed are told how it went on in
 * finish(). */
static void voted(const char *refused)
{
	if (refused) {
		drop_image();
		refuse("%s", refused);
	} else {
		tries_begin(&tries, clock_usec(), tx.conf->retry_timeout_usec);
		swap_now();
	}
}

static void begin_prepare(void)
{
	tx.phase = UPGRADE_PREPARING;
	vote_begin(tx.last_generation + 1, tx.force, voted);
}

static void hooks_done(const char *failure)
{
	report_end_phase("pre-upgrade", false);
	if (failure) {
		drop_image();
		refuse("%s", failure);
	} else {
		begin_prepare();
	}
}

void preparing_begin(int new_root, char *mount_to_leave)
{
	struct error e;

	free(leave);
	image = new_root;
	leave = mount_to_leave;
	again_timer.expired = again_timer_expired;
	tx.phase = UPGRADE_PRE;
	if (run_hooks(HOOK_PRE_UPGRADE, image, hooks_done, &e) < 0)
		hooks_done(e.text);
}

void preparing_cancel(void)
{
	hooks_cancel();
	timer_cancel(&again_timer);
	drop_image();
}
