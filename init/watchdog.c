/* SPDX-License-Identifier: MIT */
#include "init/watchdog.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "init/system.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "kernel/watchdog_device.h"

static int fd = -1;
static uint64_t actual_usec; /* its time, as far as is known */
static uint64_t end_usec; /* of the way down: when it may reset the machine; 0: not on it */
static struct loop_timer timer;
static bool missing_told;
/* Of its directory, as long as it is not there: its driver may be loaded later. */
static struct loop_source appearance = {.fd = -1};
static char looked_for[PATH_MAX];

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
}

static void stop_looking(void)
{
	int inotify = appearance.fd;

	if (inotify < 0)
		return;
	loop_remove(&appearance);
	(void)fd_close(inotify);
}

static void something_appeared(struct loop_source *s, uint32_t events)
{
	char buf[4096] __attribute__((aligned(8)));

	(void)events;
	while (read(s->fd, buf, sizeof(buf)) > 0)
		; /* what it was is found out by looking */
	watchdog_apply();
}

static void look_for_it(void)
{
	const char *path = sys.conf->watchdog_device, *slash = strrchr(path, '/');
	char directory[PATH_MAX];

	if (appearance.fd >= 0 && strcmp(looked_for, path) == 0)
		return;
	stop_looking();
	(void)snprintf(looked_for, sizeof(looked_for), "%s", path);
	(void)snprintf(directory, sizeof(directory), "%.*s",
		slash && slash > path ? (int)(slash - path) : 1, path);
	CLEANUP_FD int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	appearance.ready = something_appeared;
	if (inotify < 0 ||
		inotify_add_watch(inotify, directory, IN_CREATE | IN_MOVED_TO | IN_ATTRIB) < 0 ||
		loop_add(&appearance, inotify, EPOLLIN) < 0)
		log_warning("cannot watch %s for the watchdog: %s", directory, strerror(errno));
	else
		(void)fd_steal(&inotify);
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

	/* While it boots, that is what is to be expected. */
	if (r < 0 && !missing_told && sys.state != SYSTEM_BOOTING) {
		log_warning(
			"cannot open the watchdog %s: %s", sys.conf->watchdog_device, strerror(-r));
		missing_told = true;
	}
	if (r < 0)
		return false;
	missing_told = false;
	if (fd < 0)
		log_notice("the watchdog %s is armed", sys.conf->watchdog_device);
	fd = r;
	return true;
}

static void switch_off(void)
{
	timer_cancel(&timer);
	stop_looking();
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
	} else {
		if (fd < 0)
			look_for_it(); /* first to watch, then to look: in between it may come */
		if (open_device()) {
			stop_looking();
			set_time(sys.conf->runtime_watchdog_usec);
		}
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
