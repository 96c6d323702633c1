/* SPDX-License-Identifier: MIT */
#include "init/single.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "conf/unit.h"
#include "init/boot.h"
#include "init/devices.h"
#include "init/keep.h"
#include "init/records.h"
#include "init/stragglers.h"
#include "init/system.h"
#include "init/waiting.h"
#include "init/wall.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/limbo.h"
#include "upgrade/upgrade.h"

#define TERM_USEC (5 * USEC_PER_SEC)
#define KILL_USEC (10 * USEC_PER_SEC)

/* Services in their order, then what is left of them and of who was logged in: as on the way down.
 */
enum step { STEP_NONE, STEP_SERVICES, STEP_TERM, STEP_KILL, N_STEPS };

static const char *const STEPS[N_STEPS] = {
	[STEP_NONE] = "", [STEP_SERVICES] = "services", [STEP_TERM] = "term", [STEP_KILL] = "kill"};

static enum step step;
static struct loop_timer timer, tell_timer;
static uint64_t
	services_until_usec; /* their deadline; the timer has none any more when it has expired */

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

static void leave(void)
{
	step = STEP_NONE;
	timer_cancel(&timer);
	timer_cancel(&tell_timer);
	stragglers_forget();
}

static void arrive(void)
{
	leave();
	boot_to_single();
}

static void look(void)
{
	/* Going down, perhaps: then that takes care of them. */
	if (sys.state != SYSTEM_BOOTING)
		leave();
	else if (step >= STEP_TERM && others_are_down() && !stragglers_are_left())
		arrive();
}

static void signal_all(enum step next, int signal, uint64_t usec)
{
	step = next;
	timer_set(&timer, deadline_in(usec));
	stragglers_watch(look); /* first to watch, then to look */
	stragglers_signal(signal);
	stragglers_signal(SIGCONT);
	look();
}

/* The step is done, or late. */
static void advance(void)
{
	switch (step) {
	case STEP_NONE:
	case N_STEPS:
		return;
	case STEP_SERVICES:
		if (!others_are_down()) {
			waiting_for_services(services_until_usec);
			log_warning("services that have not stopped in time are killed");
		}
		timer_cancel(&tell_timer);
		signal_all(STEP_TERM, SIGTERM, TERM_USEC);
		return;
	case STEP_TERM:
		stragglers_name(false);
		signal_all(STEP_KILL, SIGKILL, KILL_USEC);
		return;
	case STEP_KILL:
		stragglers_name(true);
		stragglers_signal(SIGKILL); /* what an ExecStopPost= has started meanwhile */
		arrive();
		return;
	}
}

static void timed_out(struct loop_timer *t)
{
	(void)t;
	if (sys.state == SYSTEM_BOOTING)
		advance();
	else
		leave();
}

static void tell(struct loop_timer *t)
{
	if (sys.state != SYSTEM_BOOTING)
		return;
	waiting_for_services(services_until_usec);
	timer_set(t, deadline_in(WAITING_EVERY_USEC));
}

static void stop_others(void)
{
	struct error e;

	step = STEP_SERVICES;
	stragglers_spare(stays);
	timer.expired = timed_out;
	services_until_usec = deadline_in(sys.conf->shutdown_timeout_usec);
	timer_set(&timer, services_until_usec);
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
	records_note_single();
	stop_others();
	/* Not yet: who asked is one of them, and to be answered first. */
	if (others_are_down())
		timer_set(&timer, clock_usec());
	keep_now();
	return 0;
}

bool single_is_coming(void)
{
	return step != STEP_NONE;
}

void single_services_changed(void)
{
	if (step == STEP_SERVICES && sys.state == SYSTEM_BOOTING && others_are_down())
		advance();
	else if (step != STEP_NONE)
		look();
}

void single_save(struct record_writer *w)
{
	record_bool(w, "to_single", single_is_coming());
	record_text(w, "single_step", STEPS[step]);
}

void single_load(const struct record *r)
{
	const char *word = record_get(r, "single_step");

	step = STEP_NONE;
	if (!record_get_bool(r, "to_single", false))
		return;
	/* One that is not known is begun anew. */
	for (step = STEP_KILL; step > STEP_SERVICES; step--)
		if (word && strcmp(STEPS[step], word) == 0)
			return;
}

void single_has_come(void)
{
	step = STEP_NONE;
}

void single_resume(void)
{
	bool services_had_their_time = step > STEP_SERVICES;

	stop_others();
	if (services_had_their_time)
		timer_set(&timer, clock_usec());
	single_services_changed();
}
