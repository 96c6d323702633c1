/* SPDX-License-Identifier: MIT */
#include "init/good.h"

#include <string.h>

#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/hooks.h"
#include "upgrade/upgrade.h"

static bool done; /* the hooks have run, or could not */
static bool running;

/* A oneshot is up when it has done its work, and what has a condition that is not met is as it
 * should be; what is no service was never waited for. */
static bool is_up(const char *name)
{
	const struct service *s = set_find(name);

	if (!s)
		return strchr(name, '.') && !ends_with(name, ".service");
	if (service_is_active(s))
		return true;
	if (s->state == STATE_INACTIVE && s->result == RESULT_CONDITION)
		return true;
	return s->state == STATE_INACTIVE && s->unit->type == SERVICE_ONESHOT &&
	       !s->unit->remain_after_exit && s->result == RESULT_SUCCESS && s->main_exit.known;
}

static bool all_up(void)
{
	for (char **name = sys.conf->services; *name; name++)
		if (!is_up(*name))
			return false;
	return true;
}

static void hooks_done(const char *failure)
{
	running = false;
	done = true;
	if (failure)
		log_error("the boot is not good: %s", failure);
	else
		log_notice("the boot is good");
}

void good_check(void)
{
	struct hooks_request q = {.kind = HOOK_BOOT_GOOD,
		.old_generation = 1,
		.new_generation = 1,
		.root = -1,
		.timeout_usec = sys.conf->hook_timeout_usec};
	struct error e;

	if (done || running || sys.state != SYSTEM_RUNNING || upgrade_generation() != 1 ||
		upgrade_phase() != UPGRADE_IDLE || !all_up())
		return;
	if (!hook_list_may_have(HOOK_BOOT_GOOD)) {
		done = true;
		return;
	}
	running = true;
	if (hooks_begin(&q, hooks_done, &e) < 0)
		hooks_done(e.text);
}

bool good_is_busy(void)
{
	return running;
}

void good_cancel(void)
{
	if (running)
		hooks_cancel();
	running = false;
	done = true;
}

void good_save(struct record_writer *w)
{
	record_bool(w, "boot_good_done", done);
}

void good_load(const struct record *r)
{
	/* One that does not say knew of no such hooks, and left nothing to be done. */
	done = record_get_bool(r, "boot_good_done", true);
}
