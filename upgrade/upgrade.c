/* SPDX-License-Identifier: MIT */
#include "upgrade/upgrade.h"
#include "upgrade/strays.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/protocol.h"
#include "services/policy.h"
#include "upgrade/generations.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"

struct transaction tx = {.tree = -1};

enum upgrade_phase upgrade_phase(void)
{
	return tx.phase;
}

unsigned upgrade_generation(void)
{
	return sides.current.generation;
}

unsigned upgrade_generation_of(uint64_t mount_id)
{
	unsigned generation = sides_generation_of(mount_id);

	return generation ? generation : generations_find(mount_id);
}

const char *upgrade_state_name(void)
{
	switch (tx.phase) {
	case UPGRADE_IDLE:
	case UPGRADE_PLANNING:
		return "running";
	case UPGRADE_UNCOMMITTED:
		return "uncommitted";
	case UPGRADE_PRE:
	case UPGRADE_PREPARING:
	case UPGRADE_EXECING:
	case UPGRADE_SERVICES:
	case UPGRADE_POST:
	case UPGRADE_COMMITTING:
	case UPGRADE_UNDOING_EXEC:
	case UPGRADE_UNDOING:
	case UPGRADE_RESTORING:
		return "upgrading";
	}
	return "?";
}

bool upgrade_exec_wanted(void)
{
	/* A task that has run calls of ours and was too busy to be let go yet would be lost: what
	 * it has to be given back is known here alone. How long that may last: begin_exec(). */
	return tx.exec_wanted && !limbo_bars_exec();
}

int upgrade_fallback_root(void)
{
	return tx.phase == UPGRADE_EXECING || tx.phase == UPGRADE_UNDOING_EXEC ? sides.other.root
									       : -1;
}

bool upgrade_can_be_carried(void)
{
	switch (tx.phase) {
	case UPGRADE_IDLE:
	case UPGRADE_UNCOMMITTED:
	case UPGRADE_EXECING:
	case UPGRADE_SERVICES:
	case UPGRADE_UNDOING_EXEC:
	case UPGRADE_UNDOING:
		return true;
	case UPGRADE_PLANNING:
	case UPGRADE_PRE:
	case UPGRADE_PREPARING:
	case UPGRADE_POST:
	case UPGRADE_COMMITTING:
	case UPGRADE_RESTORING:
		return false;
	}
	return false;
}

bool upgrade_can_be_cancelled(void)
{
	switch (tx.phase) {
	case UPGRADE_IDLE:
	case UPGRADE_UNCOMMITTED:
	case UPGRADE_PLANNING:
	case UPGRADE_PRE:
	case UPGRADE_PREPARING:
		return true;
	case UPGRADE_POST:
		return !timer_armed(&tx.retry_timer);
	case UPGRADE_EXECING:
	case UPGRADE_SERVICES:
	case UPGRADE_COMMITTING: /* half a change of the boot default might boot nothing */
	case UPGRADE_UNDOING_EXEC:
	case UPGRADE_UNDOING:
	case UPGRADE_RESTORING:
		return false;
	}
	return false;
}

void upgrade_cancel(void)
{
	timer_cancel(&tx.commit_timer);
	timer_cancel(&tx.release_timer);
	timer_cancel(&tx.retry_timer);
	if (tx.phase == UPGRADE_IDLE || tx.phase == UPGRADE_UNCOMMITTED)
		return;
	planning_cancel();
	preparing_cancel();
	if (tx.phase == UPGRADE_POST) {
		tx.phase = UPGRADE_UNCOMMITTED;
		tx.hooks.finished(RESULT_FAILED,
			"failed: not committed: the system is going down before the checks of the new image were over");
	} else {
		refuse("the system is going down");
	}
}

void upgrade_let_go(void)
{
	sides_let_go_of_other();
	generations_let_go();
}

static int check_idle(struct error *e)
{
	if (tx.phase == UPGRADE_UNCOMMITTED)
		return error_say(e, EBUSY,
			"generation %u is not committed yet: `initctl commit` or `initctl rollback` first",
			sides.current.generation);
	if (tx.phase != UPGRADE_IDLE)
		return error_say(e, EBUSY, "busy: an upgrade of generation %u is under way",
			sides.current.generation);
	return limbo_refuse(e);
}

int upgrade_begin(const struct upgrade_request *q, struct error *e)
{
	int r = check_idle(e);

	if (r < 0)
		return r;
	char *copy = strdup(q->path);
	if (!copy)
		return error_set(e, ENOMEM, "cannot begin the upgrade");
	free(tx.path);
	tx.path = copy;
	tx.mode = q->mode;
	tx.force = q->force;
	tx.commit = q->commit;
	tx.commit_within_usec = q->commit_within_usec;
	return planning_begin(&q->options, e);
}

int upgrade_report_holders(unsigned id, const struct look_hooks *hooks, struct error *e)
{
	struct look_image other = {
		sides.other.generation, {.mount = sides.other.mount_id, .root = sides.other.root}};

	return generations_report(sides.other.generation ? &other : NULL, id, hooks, e);
}

int upgrade_init(int tree, const struct upgrade_hooks *hooks, struct error *e)
{
	tx.tree = tree;
	tx.hooks = *hooks;
	tx.commit_timer.expired = commit_timer_expired;
	tx.release_timer.expired = release_timer_expired;
	tx.retry_timer.expired = rollback_retry;
	tx.exec_timer.expired = exec_timer_expired;
	tx.last_generation = 1;
	policy_generation_of = upgrade_generation_of;
	report_init(hooks->emit);
	generations_init(tree);
	strays_init(tree);
	hooks_init(tree);
	return sides_init(tree, e);
}

void upgrade_configure(const struct system_conf *conf)
{
	tx.conf = conf;
}
