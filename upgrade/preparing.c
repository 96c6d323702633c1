/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "kernel/util.h"
#include "services/vote.h"
#include "upgrade/grafts.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"
#include "upgrade/vault.h"

static const uint64_t BUSY_RETRY_USEC[] = {
	1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 300000, 400000, 500000};

static int image = -1; /* the detached mount of the new root; -1: none */
static char *leave; /* a mount that stays on the old one */
static struct loop_timer again_timer;
static unsigned busy_tries;

static void drop_image(void)
{
	image = fd_close(image);
	free(leave);
	leave = NULL;
}

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
	/* The one that was attached is let go: there is room for one beside the root. */
	timer_cancel(&tx.release_timer);
	begin_exec(UPGRADE_EXECING);
	tx.hooks.keep();
}

static void swap_now(void)
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
		sides_forget_new();
		grafts_forget(to.generation);
		drop_image();
		refuse("%s", e.text);
	}
}

static void again_timer_expired(struct loop_timer *t)
{
	if (limbo_is_empty())
		swap_now();
	else
		timer_set(
			t, deadline_in(BUSY_RETRY_USEC[0])); /* it is let go when its vfork(2) is
								over, and cannot be seized before */
}

/* The services have said what they think of it; those that agreed are told how it went on in
 * finish(). */
static void voted(const char *refused)
{
	if (refused) {
		drop_image();
		refuse("%s", refused);
	} else {
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
	busy_tries = 0;
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
