/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "init/stages/children.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"

#ifndef MOLT_BUILD_TIME /* seconds since 1970, by the Makefile; not for who only checks the source \
			 */
#define MOLT_BUILD_TIME 0
#endif

#define STAMP STAGE_STATE "/clock"
#define STAMP_OF_SYSTEMD "/var/lib/systemd/timesync/clock"
/* A stamp of a clock that was far ahead must not be believed for ever. */
#define YEARS_TO_COME ((time_t)15 * 365 * 86400)

/* hwclock(8), "The adjtime file": the third line is UTC or LOCAL; without one it is UTC. */
static bool hardware_has_local_time(void)
{
	char text[256], *line = text;

	if (file_read(AT_FDCWD, "/etc/adjtime", text, sizeof(text)) <= 0)
		return false;
	for (int i = 0; line && i < 2; i++) {
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return line && starts_with(line, "LOCAL");
}

/*
 * The first time that the kernel is told a zone, and no time with it, it moves its clock by that
 * zone: it has read the hardware's as if that were UTC (kernel/time/time.c). So in UTC it is told
 * no zone at all, lest somebody later does.
 */
static int set_zone(void)
{
	struct timezone zone = {0};

	if (hardware_has_local_time()) {
		time_t now = time(NULL);
		struct tm local;
		if (!localtime_r(&now, &local))
			return -EOVERFLOW;
		zone.tz_minuteswest = (int)(-local.tm_gmtoff / 60);
		log_info("the hardware's clock has local time, %d minutes west of UTC",
			zone.tz_minuteswest);
	}
	/* Not the C library's function: that of musl does not do this. */
	return syscall(SYS_settimeofday, NULL, &zone) < 0 ? -errno : 0;
}

static int not_before(time_t floor, const char *what)
{
	struct timespec now, to = {.tv_sec = floor};

	if (clock_gettime(CLOCK_REALTIME, &now) < 0 || now.tv_sec >= floor)
		return 0;
	if (clock_settime(CLOCK_REALTIME, &to) < 0) {
		log_error("cannot set the clock: %s", strerror(errno));
		return 1;
	}
	log_notice("the clock was before %s: it has been set to that", what);
	return 0;
}

int stage_set_clock(void)
{
	int r;

	if (!sys.real)
		return 0;
	r = set_zone();
	if (r < 0)
		log_warning("cannot tell the kernel the time zone: %s", strerror(-r));
	return not_before((time_t)MOLT_BUILD_TIME, "this init was built") | (r < 0);
}

static time_t time_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || st.st_mtime > (time_t)MOLT_BUILD_TIME + YEARS_TO_COME)
		return 0;
	return st.st_mtime;
}

int stage_advance_clock(void)
{
	time_t own = time_of(STAMP), other = time_of(STAMP_OF_SYSTEMD);

	return sys.real ? not_before(own > other ? own : other, "the last shutdown") : 0;
}

void stage_save_clock(void)
{
	CLEANUP_FD int dir = stage_open_state();
	CLEANUP_FD int fd =
		dir < 0 ? -1 : openat(dir, "clock", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || futimens(fd, NULL) < 0)
		log_warning("cannot keep the time in %s: %s", STAMP, strerror(errno));
}
