/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "services/service.h"
#include "upgrade/report.h"
#include "upgrade/rollout.h"
#include "upgrade/transaction.h"

static void checks_done(const char *failure)
{
	report_end_phase("post-pivot", false);
	if (failure) {
		(void)snprintf(tx.why, sizeof(tx.why), "%s", failure);
		rollback_begin();
	} else {
		commit_or_wait();
	}
}

void checks_begin(void)
{
	struct error e;

	tx.phase = UPGRADE_POST;
	if (run_hooks(HOOK_POST_PIVOT, -1, checks_done, &e) < 0)
		checks_done(e.text);
}

static void services_done(const struct service *failed)
{
	report_end_phase("services", false);
	if (failed) {
		(void)snprintf(
			tx.why, sizeof(tx.why), "%s: %s", failed->unit->name, failed->roll.why);
		rollback_begin();
	} else {
		checks_begin();
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
