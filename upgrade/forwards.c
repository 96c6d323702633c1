/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "conf/protocol.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/service.h"
#include "upgrade/report.h"
#include "upgrade/rollout.h"
#include "upgrade/transaction.h"

void commit_now(void)
{
	sides_let_go_of_other();
	report_end_phase("commit", false);
	finish(RESULT_OK, "committed");
}

void commit_timer_expired(struct loop_timer *t)
{
	(void)t;
	(void)snprintf(tx.why, sizeof(tx.why),
		"nobody committed it within CommitTimeoutSec= (%llu s)",
		(unsigned long long)(tx.conf->commit_timeout_usec / USEC_PER_SEC));
	rollback_begin();
}

static void services_done(const struct service *failed)
{
	report_end_phase("services", false);
	if (failed) {
		(void)snprintf(
			tx.why, sizeof(tx.why), "%s: %s", failed->unit->name, failed->roll.why);
		rollback_begin();
	} else if (tx.conf->auto_commit) {
		commit_now();
	} else {
		tx.phase = UPGRADE_UNCOMMITTED;
		timer_set(&tx.commit_timer, deadline_in(tx.conf->commit_timeout_usec));
		log_notice("generation %u waits for `initctl commit` or `initctl rollback`",
			sides.current.generation);
		tx.hooks.finished(RESULT_OK,
			"not committed yet: `initctl commit` keeps it, `initctl rollback` undoes it");
	}
}

static const struct rollout_hooks FORWARDS = {report_rolled, services_done};

void forwards_begin(void)
{
	tx.phase = UPGRADE_SERVICES;
	rollout_begin(sides.current.mount_id, true, &FORWARDS);
}

void forwards_resume(void)
{
	rollout_resume(sides.current.mount_id, true, &FORWARDS);
}
