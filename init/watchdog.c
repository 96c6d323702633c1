/* SPDX-License-Identifier: MIT */
#include "init/watchdog.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "init/system.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "kernel/watchdog_device.h"

/* Its driver may be loaded later in the boot. */
#define LOOK_USEC (10 * USEC_PER_SEC)

static int fd = -1;
static uint64_t actual_usec; /* its time, as far as is known */
static uint64_t end_usec; /* of the way down: when it may reset the machine; 0: not on it */
static struct loop_timer timer;
static bool missing_told;

static void ping(void)
{
	int r = watchdog_device_ping(fd);

	if (r < 0)
		log_error(
			"cannot ping the watchdog %s: %s", sys.conf->watchdog_device, strerror(-r));
	/* The last one leaves it just the time that is left. */
	if (!end_usec || clock_usec() + actual_usec < end_usec)
		timer_set(&timer, deadline_in(actual_usec / 2));
}

static void expired(struct loop_timer *t)
{
	(void)t;
	if (fd >= 0)
		ping();
	else
		watchdog_apply();
}

static void set_time(uint64_t usec)
{
	uint64_t set = watchdog_device_set(fd, usec);

	if (set && set != usec)
		log_warning("the watchdog %s has a time of %llu s", sys.conf->watchdog_device,
			(unsigned long long)(set / USEC_PER_SEC));
	else if (!set)
		log_warning(
			"the watchdog %s does not say what its time is", sys.conf->watchdog_device);
	actual_usec = set ? set : usec;
	timer.expired = expired;
	ping();
}

static bool open_device(void)
{
	int r = fd >= 0 ? fd : watchdog_device_open(sys.conf->watchdog_device);

	if (r < 0 && !missing_told)
		log_warning(
			"cannot open the watchdog %s: %s", sys.conf->watchdog_device, strerror(-r));
	missing_told = r < 0;
	if (r < 0)
		return false;
	if (fd < 0)
		log_notice("the watchdog %s is armed", sys.conf->watchdog_device);
	fd = r;
	return true;
}

static void switch_off(void)
{
	timer_cancel(&timer);
	if (fd < 0)
		return;
	log_notice("the watchdog %s is switched off", sys.conf->watchdog_device);
	watchdog_device_disarm(fd);
	fd = -1;
}

void watchdog_apply(void)
{
	timer.expired = expired;
	if (end_usec) {
		if (fd >= 0)
			set_time(sys.conf->reboot_watchdog_usec);
	} else if (!sys.conf->runtime_watchdog_usec) {
		switch_off();
	} else if (open_device()) {
		set_time(sys.conf->runtime_watchdog_usec);
	} else {
		timer_set(&timer, deadline_in(LOOK_USEC));
	}
}

void watchdog_shutdown(bool halt)
{
	uint64_t usec = sys.conf->reboot_watchdog_usec;

	if (halt || !usec) {
		switch_off();
		return;
	}
	/* Of a container it would be the machine's. */
	if (fd < 0 && (!sys.real || access(sys.conf->watchdog_device, W_OK) < 0))
		return;
	end_usec = deadline_in(usec);
	if (open_device())
		set_time(usec);
}

/* State */

void watchdog_save(struct record_writer *w)
{
	if (fd < 0)
		return;
	record_begin(w, "watchdog", "");
	record_int(w, "fd", fd);
	record_int(w, "end_usec", (int64_t)end_usec);
	record_end(w);
}

void watchdog_load(const struct record *r)
{
	fd = identity_take((int)record_get_int(r, "fd", -1));
	end_usec = (uint64_t)record_get_int(r, "end_usec", 0);
}

void watchdog_each_fd(int (*visit)(int fd))
{
	if (fd >= 0)
		(void)visit(fd);
}
