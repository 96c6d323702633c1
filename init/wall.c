/* SPDX-License-Identifier: MIT */
#include "init/wall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utmpx.h>

#include "conf/unit.h"
#include "kernel/log.h"
#include "kernel/proc.h"
#include "kernel/process.h"
#include "kernel/util.h"

#define LIMIT_SEC 10
#define AGAIN_MSEC 50
#define BUSY_MAX 256
#define UTMP "/run/utmp" /* /var may not be there (any more) */

/* Written by others, and made clean: a terminal obeys what is shown on it. */
static void append_clean(char *buf, size_t size, const char *text)
{
	size_t n = strlen(buf);

	for (; *text && n + 2 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '\n') {
			buf[n++] = '\r';
			buf[n++] = '\n';
		} else {
			buf[n++] = c < ' ' || c == 0x7f ? '?' : (char)c;
		}
	}
	buf[n] = '\0';
}

static void compose(char *buf, size_t size, const char *text, const char *by, const char *extra)
{
	char host[65] = "", when[40] = "";
	time_t now = time(NULL);
	struct tm tm;

	(void)gethostname(host, sizeof(host) - 1);
	if (localtime_r(&now, &tm))
		(void)strftime(when, sizeof(when), "%a %Y-%m-%d %H:%M:%S %Z", &tm);
	(void)snprintf(buf, size, "\a\r\n\r\nBroadcast message from ");
	append_clean(buf, size, by && *by ? by : "init");
	append_clean(buf, size, "@");
	append_clean(buf, size, host);
	append_clean(buf, size, " (");
	append_clean(buf, size, when);
	append_clean(buf, size, "):\n\n");
	if (extra && *extra) {
		append_clean(buf, size, extra);
		append_clean(buf, size, "\n");
	}
	append_clean(buf, size, text);
	append_clean(buf, size, "\n\n");
}

/* Terminals that have not taken all of it yet: somebody else writes there just now (EAGAIN), or
 * nobody reads. */
static struct {
	int fd;
	const char *rest;
} busy[BUSY_MAX];
static size_t n_busy;

/* Whether that is all that can be done there. */
static bool write_more(int fd, const char **rest)
{
	size_t left = strlen(*rest);
	ssize_t n = write(fd, *rest, left);

	if (n > 0)
		*rest += n;
	return n < 0 ? errno != EAGAIN && errno != EINTR : (size_t)n == left;
}

static void write_to(const char *line, const char *text)
{
	char path[sizeof("/dev/") + __UT_LINESIZE];

	(void)snprintf(path, sizeof(path), "/dev/%s", line);
	if (!*line || strstr(line, ".."))
		return;
	/* One that nobody reads from holds up no other. */
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (!isatty(fd) || write_more(fd, &text) || n_busy == BUSY_MAX) {
		(void)close(fd);
		return;
	}
	busy[n_busy].fd = fd;
	busy[n_busy++].rest = text;
}

/* Until all have it, or the time is over. */
static void write_rest(void)
{
	while (n_busy > 0) {
		(void)poll(NULL, 0, AGAIN_MSEC); /* EAGAIN is not always told by POLLOUT */
		for (size_t i = n_busy; i-- > 0;)
			if (write_more(busy[i].fd, &busy[i].rest))
				busy[i] = busy[--n_busy];
	}
}

/* Once each, however many processes somebody has there. */
static void tell(const char *line, const char *text)
{
	static char **told;

	if (strings_ensure(&told) < 0 || strings_contain(told, line) ||
		strings_append(&told, line) < 0)
		return;
	write_to(line, text);
}

static void tell_utmp(const char *text)
{
	char line[__UT_LINESIZE + 1];
	const struct utmpx *u;

	(void)utmpxname(UTMP);
	setutxent();
	while ((u = getutxent())) {
		if (u->ut_type != USER_PROCESS)
			continue;
		(void)snprintf(line, sizeof(line), "%.*s", __UT_LINESIZE, u->ut_line);
		tell(line, text);
	}
}

/* Distributions begin to do without utmp: whoever has a terminal, and does not only offer a login.
 */
static void tell_terminals(const char *text)
{
	struct pid_array all = {0};
	char line[64];

	if (proc_processes(&all) < 0)
		return;
	for (size_t i = 0; i < all.count; i++) {
		proc_comm(all.pids[i], line, sizeof(line));
		if (!strstr(line, "getty") && proc_terminal(all.pids[i], line, sizeof(line)))
			tell(line, text);
	}
}

static void __attribute__((noreturn)) tell_all(const char *text, const char *by, const char *extra)
{
	char buf[2048];

	(void)alarm(LIMIT_SEC);
	compose(buf, sizeof(buf), text, by, extra);
	tell_utmp(buf);
	tell_terminals(buf);
	write_rest();
	_exit(0);
}

void wall_send(const char *text, const char *by, const char *extra)
{
	int pidfd = -1;
	pid_t pid = process_fork(-1, &pidfd);

	if (pid == 0)
		tell_all(text, by, extra);
	if (pid < 0)
		log_warning("cannot tell the people who are logged in: %s", strerror(-(int)pid));
	(void)fd_close(pidfd);
}
