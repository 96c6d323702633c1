/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/protocol.h"
#include "kernel/log.h"
#include "services/vote.h"
#include "upgrade/transaction.h"

void begin_exec(enum upgrade_phase phase)
{
	tx.phase = phase;
	tx.exec_wanted = true;
}

void finish(const char *result, const char *text)
{
	tx.phase = UPGRADE_IDLE;
	tx.exec_wanted = false;
	timer_cancel(&tx.commit_timer);
	timer_cancel(&tx.retry_timer);
	if (strcmp(result, RESULT_OK) == 0)
		vote_commit();
	else
		vote_abort();
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
