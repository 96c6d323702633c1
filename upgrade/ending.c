/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/protocol.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/listen.h"
#include "services/vote.h"
#include "upgrade/grafts.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/transaction.h"

void begin_exec(enum upgrade_phase phase)
{
	char why[256];

	tx.phase = phase;
	tx.exec_wanted = true;
	if (!limbo_bars_exec())
		return;
	limbo_say(why, sizeof(why));
	report_progress("the new init waits for it, %llu s at most (RetryTimeoutSec=): %s",
		(unsigned long long)(tx.conf->retry_timeout_usec / USEC_PER_SEC), why);
	timer_set(&tx.exec_timer, deadline_in(tx.conf->retry_timeout_usec));
}

void exec_timer_expired(struct loop_timer *t)
{
	(void)t;
	if (tx.exec_wanted)
		limbo_give_up();
}

void finish(const char *result, const char *text)
{
	tx.phase = UPGRADE_IDLE;
	tx.exec_wanted = false;
	grafts_discard();
	timer_cancel(&tx.exec_timer);
	timer_cancel(&tx.commit_timer);
	timer_cancel(&tx.retry_timer);
	if (strcmp(result, RESULT_OK) == 0)
		vote_commit();
	else
		vote_abort();
	tx.committed = tx.restore = false;
	listen_settle();
	log_notice("upgrade: %s", text);
	tx.hooks.finished(result, text);
}

void refuse(const char *format, ...)
{
	char why[512], text[600];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	(void)snprintf(text, sizeof(text), "refused: %s", why);
	finish(RESULT_REFUSED, text);
}

int run_hooks(enum hook_kind kind, int new_root, void (*done)(const char *failure), struct error *e)
{
	bool before = kind == HOOK_PRE_UPGRADE, back = tx.phase == UPGRADE_RESTORING;
	struct hooks_request q = {.kind = kind,
		.old_generation = before ? sides.current.generation : sides.other.generation,
		.new_generation = before ? tx.last_generation + 1 : sides.current.generation,
		.image = back ? NULL : tx.path,
		.rollback = back,
		.root_name = before ? "MOLT_NEW_ROOT" : "MOLT_OLD_ROOT",
		.root = before ? new_root : sides.other.root,
		.timeout_usec = tx.conf->hook_timeout_usec};

	return hooks_begin(&q, done, e);
}
