/* SPDX-License-Identifier: MIT */
#include "init/single.h"

#include <errno.h>

#include "conf/unit.h"
#include "init/boot.h"
#include "init/devices.h"
#include "init/keep.h"
#include "init/records.h"
#include "init/system.h"
#include "init/waiting.h"
#include "init/wall.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/limbo.h"
#include "upgrade/upgrade.h"

static bool coming;
static struct loop_timer timer, tell_timer;

static bool stays(const struct service *s)
{
	return s->unit->system_storage || strings_contain(devices_services(), s->unit->name);
}

static bool others_are_down(void)
{
	for (const struct service *s = set_first(); s; s = s->next)
		if (!stays(s) && !service_is_down(s))
			return false;
	return true;
}

static void arrive(void)
{
	coming = false;
	timer_cancel(&timer);
	timer_cancel(&tell_timer);
	if (sys.state == SYSTEM_BOOTING)
		boot_to_single();
}

static void timed_out(struct loop_timer *t)
{
	(void)t;
	if (sys.state == SYSTEM_BOOTING)
		log_warning("services that have not stopped in time go on in single-user mode");
	arrive();
}

static void tell(struct loop_timer *t)
{
	if (sys.state != SYSTEM_BOOTING)
		return;
	waiting_for_services(timer.deadline_usec);
	timer_set(t, deadline_in(WAITING_EVERY_USEC));
}

static void stop_others(void)
{
	struct error e;

	timer.expired = timed_out;
	timer_set(&timer, deadline_in(sys.conf->shutdown_timeout_usec));
	tell_timer.expired = tell;
	timer_set(&tell_timer, deadline_in(WAITING_EVERY_USEC));
	for (const struct service *s = set_first(); s; s = s->next)
		if (!stays(s) && !service_is_down(s) && set_stop(s->unit->name, &e) < 0)
			log_error("%s", e.text);
}

int single_begin(struct error *e)
{
	if (sys.state != SYSTEM_RUNNING)
		return error_say(e, EBUSY, "busy: the system does not run");
	if (upgrade_phase() != UPGRADE_IDLE || !limbo_is_empty())
		return error_say(e, EBUSY, "busy: an upgrade is under way");
	log_notice("going to single-user mode");
	wall_send("The system goes to single-user mode NOW!", NULL, NULL);
	/* Neither an upgrade nor a re-exec until it runs again. */
	sys.state = SYSTEM_BOOTING;
	coming = true;
	records_note_single();
	stop_others();
	keep_now();
	single_services_changed();
	return 0;
}

bool single_is_coming(void)
{
	return coming;
}

void single_services_changed(void)
{
	if (coming && others_are_down())
		arrive();
}

void single_save(struct record_writer *w)
{
	record_bool(w, "to_single", coming);
}

void single_load(const struct record *r)
{
	coming = record_get_bool(r, "to_single", false);
}

void single_has_come(void)
{
	coming = false;
}

void single_resume(void)
{
	stop_others();
	single_services_changed();
}
