/* SPDX-License-Identifier: MIT */
#include "kernel/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernel/util.h"

#define LINE_SIZE 800
#define HELD_LINES 64
#define FILE_MAX_BYTES (1024 * 1024)

struct line {
	enum log_level level;
	struct timespec when;
	char text[LINE_SIZE];
};

static int kmsg_fd = -1, file_fd = -1;
static bool debug, holding;
static struct line held[HELD_LINES];
static unsigned n_held; /* ever since hold began; the last HELD_LINES are there */

void log_open_kmsg(void)
{
	if (kmsg_fd < 0)
		kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);
}

void log_lift_kmsg_limit(void)
{
	(void)file_write(AT_FDCWD, "/proc/sys/kernel/printk_devkmsg", "on");
}

void log_open_file(void)
{
	file_fd = fd_close(file_fd);
	file_fd = open(LOG_PATH, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
}

static void close_between(int first, int last)
{
	if (first <= last)
		(void)close_range((unsigned)first, (unsigned)last, 0);
}

void log_close_others(void)
{
	int low = kmsg_fd < file_fd ? kmsg_fd : file_fd, high = kmsg_fd + file_fd - low;

	/* -1 is below all. */
	low = low < 3 ? 2 : low;
	high = high < 3 ? low : high;
	close_between(3, low - 1);
	close_between(low + 1, high - 1);
	(void)close_range((unsigned)high + 1, ~0U, 0);
}

void log_set_debug(bool on)
{
	debug = on;
}

static void rotate_file(void)
{
	struct stat st;

	if (fstat(file_fd, &st) == 0 && st.st_size > FILE_MAX_BYTES) {
		(void)rename(LOG_PATH, LOG_PATH ".1");
		log_open_file();
	}
}

/* A log that cannot be written has nobody left to be told: results are ignored on purpose. */
static void write_line(const struct line *l)
{
	char buf[LINE_SIZE + 64];
	struct tm tm;

	if (kmsg_fd >= 0) {
		int n = snprintf(buf, sizeof(buf), "<%d>molt: %s\n", (int)l->level, l->text);
		(void)!write(kmsg_fd, buf, (size_t)n);
	}
	if (file_fd >= 0 && gmtime_r(&l->when.tv_sec, &tm)) {
		size_t n = strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm);
		n += (size_t)snprintf(buf + n, sizeof(buf) - n, ".%03ldZ %s\n",
			l->when.tv_nsec / 1000000, l->text);
		(void)!write(file_fd, buf, n);
		rotate_file();
	}
	if (kmsg_fd < 0 && file_fd < 0)
		(void)dprintf(STDERR_FILENO, "molt: %s\n", l->text);
}

static void write_held(void)
{
	unsigned first = n_held > HELD_LINES ? n_held - HELD_LINES : 0;

	for (unsigned i = first; i < n_held; i++)
		write_line(&held[i % HELD_LINES]);
	n_held = 0;
}

void log_hold(bool on)
{
	holding = on;
	if (!on)
		write_held();
}

void log_line(enum log_level level, const char *format, ...)
{
	static struct line now; /* one thread; too large for a signal-sized stack */
	struct line *l;
	va_list ap;

	if (level == LEVEL_DEBUG && !debug)
		return;
	l = holding ? &held[n_held++ % HELD_LINES] : &now;
	l->level = level;
	(void)clock_gettime(CLOCK_REALTIME, &l->when);
	va_start(ap, format);
	if (vsnprintf(l->text, sizeof(l->text), format, ap) < 0)
		l->text[0] = '\0';
	va_end(ap);
	/* One line is one line, whatever a service puts into its name or status. */
	for (char *p = l->text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	if (!holding)
		write_line(l);
}
