/* SPDX-License-Identifier: MIT */
#include "init/waiting.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/system.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "services/set.h"

/* More than that is no sentence any more. */
#define NAMES_MAX 6

/* With "quiet" on its command line the kernel shows nothing of what is said here. */
static bool kernel_shows(enum log_level level)
{
	char text[64];
	int shown = 0;

	return sys.real && file_read(AT_FDCWD, "/proc/sys/kernel/printk", text, sizeof(text)) > 0 &&
	       sscanf(text, "%d", &shown) == 1 && (int)level < shown;
}

/* A terminal that nobody reads from is not waited for; what a container has for one neither. */
static void show(const char *text)
{
	char line[900];
	int fd = sys.real ? open(sys.conf->console, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
			  : STDERR_FILENO;
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	(void)snprintf(line, sizeof(line), "molt: %s\r\n", text);
	if (fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
		(void)!write(fd, line, strlen(line));
	if (sys.real)
		(void)fd_close(fd);
}

void waiting_say(const char *format, ...)
{
	char text[800];
	va_list ap;

	va_start(ap, format);
	if (vsnprintf(text, sizeof(text), format, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	log_notice("%s", text);
	if (!kernel_shows(LEVEL_NOTICE))
		show(text);
}

static unsigned seconds(uint64_t usec)
{
	return (unsigned)((usec + USEC_PER_SEC / 2) / USEC_PER_SEC);
}

/* "23 s of 90 s" */
static void say_time(char *buf, size_t size, uint64_t since, uint64_t deadline)
{
	uint64_t now = clock_usec();
	int n = snprintf(buf, size, "%u s", seconds(now > since ? now - since : 0));

	if (deadline > since && deadline != USEC_INFINITY && n > 0 && (size_t)n < size)
		(void)snprintf(buf + n, size - (size_t)n, " of %u s", seconds(deadline - since));
}

static bool is_stopping(const struct service *s)
{
	return s->state == STATE_STOPPING || s->state == STATE_TERMINATING ||
	       s->state == STATE_KILLING || s->state == STATE_CLEANUP;
}

static void name_service(const struct service *s, uint64_t deadline_usec)
{
	uint64_t own = s->timer.deadline_usec;
	char time[64], pid[32] = "";

	say_time(time, sizeof(time), s->since_usec,
		own && own < deadline_usec ? own : deadline_usec);
	if (service_main_pid(s))
		(void)snprintf(pid, sizeof(pid), " (pid %d)", (int)service_main_pid(s));
	waiting_say("waiting for %s%s, %s", s->unit->name, pid, time);
}

void waiting_for_services(uint64_t deadline_usec)
{
	unsigned n = 0;

	for (const struct service *s = set_first(); s; s = s->next)
		if (is_stopping(s) && ++n <= NAMES_MAX)
			name_service(s, deadline_usec);
	if (n > NAMES_MAX)
		waiting_say("... and for %u more services", n - NAMES_MAX);
}

static int collect(int cgroup, const char *path, void *list)
{
	(void)path;
	return cgroup_pids(cgroup, "cgroup.procs", list);
}

/* "912 dd (D, in blkdev_issue_flush)" */
static void name_process(char *buf, size_t size, pid_t pid)
{
	struct proc_stat stat;
	char path[32], wchan[64];

	if (proc_stat_read(pid, &stat) < 0) {
		(void)snprintf(buf, size, "%d", (int)pid);
		return;
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/wchan", (int)pid);
	bool known = file_read(AT_FDCWD, path, wchan, sizeof(wchan)) > 0 && wchan[0] != '0';
	(void)snprintf(buf, size, "%d %s (%c%s%s)", (int)pid, stat.comm, stat.state,
		known ? ", in " : "", known ? wchan : "");
}

static bool is_dead(pid_t pid)
{
	struct proc_stat stat;

	return proc_stat_read(pid, &stat) < 0 || stat.state == 'Z' || stat.state == 'X';
}

void waiting_for_pids(const struct pid_array *list, bool killed)
{
	char text[700] = "";
	size_t at = 0, n = 0;

	for (size_t i = 0; i < list->count; i++) {
		char one[160];
		if (is_dead(list->pids[i]) || ++n > NAMES_MAX)
			continue;
		name_process(one, sizeof(one), list->pids[i]);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? "; " : "", one);
		at = at < sizeof(text) ? at : sizeof(text) - 1;
	}
	if (n > 0)
		waiting_say("%zu %s %s: %s%s", n, n == 1 ? "process" : "processes",
			killed ? n == 1 ? "does not end on SIGKILL" : "do not end on SIGKILL"
			       : "still to end on SIGTERM",
			text, n > NAMES_MAX ? "; ..." : "");
}

void waiting_for_processes(bool killed)
{
	struct pid_array list = {0};

	(void)cgroup_walk(sys.tree, collect, &list);
	waiting_for_pids(&list, killed);
	pid_array_free(&list);
}

void waiting_for_child(const char *what, pid_t pid, uint64_t since_usec, uint64_t deadline_usec)
{
	char time[64], child[160];

	say_time(time, sizeof(time), since_usec, deadline_usec);
	name_process(child, sizeof(child), pid);
	waiting_say("waiting for %s, %s: %s", what, time, child);
}

/* "fsck.ext4 -a /dev/sda2": what a child runs, without the directories of the program. */
static void name_program(char *buf, size_t size, pid_t pid)
{
	char path[32], line[200];

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	ssize_t n = file_read(AT_FDCWD, path, line, sizeof(line));
	for (ssize_t i = 0; i < n - 1; i++)
		if (!line[i])
			line[i] = ' ';
	const char *space = n > 0 ? strchr(line, ' ') : NULL;
	const char *begin = n > 0 ? line : "";
	for (const char *p = begin; *p && p != space; p++)
		if (*p == '/')
			begin = p + 1;
	(void)snprintf(buf, size, "%s", begin);
}

/* What has no children is what works; a kernel without that file (CONFIG_PROC_CHILDREN) names none.
 */
static void name_workers(char *buf, size_t size, pid_t pid, unsigned depth)
{
	char path[64], list[256], one[128], *state = NULL;
	pid_t child;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	if (depth > 8 || file_read(AT_FDCWD, path, list, sizeof(list)) <= 0)
		list[0] = '\0';
	char *word = strtok_r(list, " \n", &state);
	if (!word && depth > 0) {
		size_t at = strlen(buf);
		name_program(one, sizeof(one), pid);
		(void)snprintf(buf + at, size - at, "%s%s", at ? "; " : "", one);
	}
	for (; word; word = strtok_r(NULL, " \n", &state))
		if (parse_pid(word, &child))
			name_workers(buf, size, child, depth + 1);
}

void waiting_for_stage(const char *what, pid_t pid, uint64_t since_usec, uint64_t deadline_usec)
{
	char time[64], workers[400] = "";

	say_time(time, sizeof(time), since_usec, deadline_usec);
	name_workers(workers, sizeof(workers), pid, 0);
	waiting_say("still %s, %s%s%s", what, time, workers[0] ? ": " : "", workers);
}

void waiting_to_come_up(
	const char *what, char *const *names, uint64_t since_usec, uint64_t deadline_usec)
{
	char time[64], list[400] = "";
	size_t n = 0;

	for (; *names; names++) {
		const struct service *s = set_find(*names);
		if (s && s->state != STATE_INACTIVE && s->state != STATE_FAILED &&
			!service_is_active(s) && n < sizeof(list))
			n += (size_t)snprintf(
				list + n, sizeof(list) - n, "%s%s", n ? ", " : "", *names);
	}
	say_time(time, sizeof(time), since_usec, deadline_usec);
	waiting_say("still %s, %s%s%s", what, time, n ? ": " : "", list);
}

void waiting_for_device(const char *source, uint64_t since_usec, uint64_t deadline_usec)
{
	char time[64];

	say_time(time, sizeof(time), since_usec, deadline_usec);
	waiting_say("waiting for the device %s, %s", source, time);
}
