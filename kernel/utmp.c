/* SPDX-License-Identifier: MIT */
#include "kernel/utmp.h"

#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <utmpx.h>

#include "kernel/util.h"

void utmp_make(void)
{
	struct stat st;

	if (stat(UTMP_FILE, &st) == 0)
		return;
	CLEANUP_FD int fd = open(UTMP_FILE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
	const struct group *group = fd >= 0 ? getgrnam("utmp") : NULL;
	/* Without that group it is root's alone: nobody but root writes to it anyway. */
	if (group && fchown(fd, 0, group->gr_gid) == 0)
		(void)fchmod(fd, 0664); /* whatever the mask */
}

/* The field is cut, and has no NUL at its end if it is full: utmp(5). */
static void put(char *field, size_t size, const char *text)
{
	size_t length = strlen(text);

	memcpy(field, text, length < size ? length : size);
}

static void set_time(struct utmpx *u, const struct timeval *tv)
{
	/* 32 bits wide on 64-bit machines too. */
	u->ut_tv.tv_sec = (__typeof__(u->ut_tv.tv_sec))tv->tv_sec;
	u->ut_tv.tv_usec = (__typeof__(u->ut_tv.tv_usec))tv->tv_usec;
}

static struct utmpx entry_of(short type, const char *user, const char *id, const char *line)
{
	struct utmpx u = {.ut_type = type};
	struct timeval now;

	(void)gettimeofday(&now, NULL);
	set_time(&u, &now);
	put(u.ut_user, sizeof(u.ut_user), user);
	put(u.ut_id, sizeof(u.ut_id), id);
	put(u.ut_line, sizeof(u.ut_line), line);
	return u;
}

/* The machine's own entries carry the kernel's release. */
static struct utmpx machine_entry(short type, const char *user)
{
	struct utmpx u = entry_of(type, user, "~~", "~");
	struct utsname name;

	if (uname(&name) == 0)
		put(u.ut_host, sizeof(u.ut_host), name.release);
	return u;
}

static void write_both(const struct utmpx *u)
{
	setutxent();
	(void)pututxline(u);
	endutxent();
	updwtmpx(WTMP_FILE, u);
}

void utmp_note_boot(void)
{
	struct utmpx u = machine_entry(BOOT_TIME, "reboot");
	struct timespec up;
	struct timeval now, began;

	(void)gettimeofday(&now, NULL);
	if (clock_gettime(CLOCK_BOOTTIME, &up) == 0) {
		struct timeval since = {up.tv_sec, up.tv_nsec / 1000};
		timersub(&now, &since, &began);
		set_time(&u, &began);
	}
	write_both(&u);
}

void utmp_note_run_level(char level)
{
	struct utmpx u = machine_entry(RUN_LVL, "runlevel");

	u.ut_pid = level + 256 * 'N'; /* the one before it: none */
	write_both(&u);
}

void utmp_note_shutdown(void)
{
	struct utmpx u = machine_entry(RUN_LVL, "shutdown");

	updwtmpx(WTMP_FILE, &u);
}

/* As agetty(8) and login(1) have it: they find it again by that. */
static const char *id_of(const char *line)
{
	const char *id = starts_with(line, "tty") ? line + strlen("tty") : line;
	size_t length = strlen(id), room = sizeof(((struct utmpx *)NULL)->ut_id);

	return length > room ? id + length - room : id;
}

void utmp_note_getty(const char *line)
{
	struct utmpx u = entry_of(INIT_PROCESS, "", id_of(line), line);

	u.ut_pid = getpid();
	u.ut_session = getsid(0);
	write_both(&u);
}

/* Of the one who began there last. */
static bool find(const char *line, struct utmpx *ret)
{
	struct utmpx key = entry_of(DEAD_PROCESS, "", id_of(line), line);

	setutxent();
	const struct utmpx *found = getutxid(&key);
	if (found)
		*ret = *found;
	endutxent();
	return found != NULL;
}

/* PID 1 may not have buried it yet. */
static bool is_alive(pid_t pid)
{
	char path[32], text[512];

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	const char *state = strrchr(text, ')');
	return state && strncmp(state, ") Z", 3) != 0 && strncmp(state, ") X", 3) != 0;
}

void utmp_note_dead(const char *line)
{
	struct utmpx last, u = entry_of(DEAD_PROCESS, "", id_of(line), line);

	if (!find(line, &last) || last.ut_type == DEAD_PROCESS)
		return;
	if (last.ut_pid > 0 && is_alive(last.ut_pid))
		return;
	u.ut_pid = last.ut_pid;
	u.ut_session = last.ut_session;
	write_both(&u);
}
