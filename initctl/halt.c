/* SPDX-License-Identifier: MIT */
/* reboot(8), halt(8), poweroff(8): through PID 1, or with -f past it. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utmpx.h>

#include "initctl/command.h"
#include "initctl/connection.h"
#include "initctl/format.h"
#include "initctl/legacy.h"
#include "initctl/memory.h"

/* A disk that does not answer: asked again, with -f, it ends all the same. */
#define SYNC_SEC 10
#define WTMP "/var/log/wtmp"

static const char USAGE[] =
	"usage: reboot | halt | poweroff [OPTIONS]\n\n"
	"  -p, --poweroff   switch off, whatever the command is called\n"
	"      --reboot     boot again\n"
	"      --halt       stop, and leave the power on\n"
	"  -f, --force      not through PID 1: sync, and then the kernel; services are not stopped\n"
	"  -n, --no-sync    with -f: no sync either; so does -ff\n"
	"  -w, --wtmp-only  only write the record of it to " WTMP "\n"
	"  -d, --no-wtmp    write no such record\n"
	"      --no-wall    say nothing to the people who are logged in\n"
	"      --help       this text\n"
	"Of sysvinit, -i and -h are taken and mean nothing here.\n";

enum { VALUE_NO_WALL = 256, VALUE_REBOOT, VALUE_HALT, VALUE_HELP };

static const struct option OPTIONS[] = {{"poweroff", no_argument, NULL, 'p'},
	{"reboot", no_argument, NULL, VALUE_REBOOT}, {"halt", no_argument, NULL, VALUE_HALT},
	{"force", no_argument, NULL, 'f'}, {"no-sync", no_argument, NULL, 'n'},
	{"wtmp-only", no_argument, NULL, 'w'}, {"no-wtmp", no_argument, NULL, 'd'},
	{"no-wall", no_argument, NULL, VALUE_NO_WALL}, {"help", no_argument, NULL, VALUE_HELP},
	{0}};

struct halt_line {
	const char *kind;
	int force;
	bool no_sync, wtmp_only, no_wtmp, no_wall, help;
};

static bool take(int value, struct halt_line *line)
{
	switch (value) {
	case 'p':
		line->kind = "poweroff";
		return true;
	case VALUE_REBOOT:
		line->kind = "reboot";
		return true;
	case VALUE_HALT:
		line->kind = "halt";
		return true;
	case 'f':
		line->force++;
		return true;
	case 'n':
		line->no_sync = true;
		return true;
	case 'w':
		line->wtmp_only = true;
		return true;
	case 'd':
		line->no_wtmp = true;
		return true;
	case VALUE_NO_WALL:
		line->no_wall = true;
		return true;
	case VALUE_HELP:
		line->help = true;
		return true;
	default:
		return value != '?';
	}
}

/* utmp(5), as last(1) reads it. */
static void write_wtmp(void)
{
	struct utmpx u = {.ut_type = RUN_LVL, .ut_line = "~", .ut_user = "shutdown"};
	struct utsname name;
	struct timeval now;

	memcpy(u.ut_id, "~~", 2);
	if (uname(&name) == 0)
		(void)snprintf(u.ut_host, sizeof(u.ut_host), "%.64s", name.release);
	(void)gettimeofday(&now, NULL);
	u.ut_tv.tv_sec = (__typeof__(u.ut_tv.tv_sec))now.tv_sec;
	u.ut_tv.tv_usec = (__typeof__(u.ut_tv.tv_usec))now.tv_usec;
	updwtmpx(WTMP, &u);
}

static void sync_with_bound(void)
{
	struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	pid_t pid = fork();

	if (pid == 0) {
		sync();
		_exit(0);
	}
	for (int i = 0; pid > 0 && i < SYNC_SEC * 50; i++) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return;
		(void)nanosleep(&pause, NULL);
	}
	complain("the disks do not answer: going on without them");
}

static int force(const struct halt_line *line)
{
	int how = strcmp(line->kind, "reboot") == 0 ? RB_AUTOBOOT
		  : strcmp(line->kind, "halt") == 0 ? RB_HALT_SYSTEM
						    : RB_POWER_OFF;

	if (geteuid() != 0) {
		complain("only root may");
		return CONTROL_EXIT_DENIED;
	}
	/* It may be all that is left working: nothing is to stop it. */
	(void)signal(SIGHUP, SIG_IGN);
	if (!line->no_wtmp)
		write_wtmp();
	if (!line->no_sync && line->force < 2)
		sync_with_bound();
	(void)reboot(how);
	char *text = format_text("the kernel does not %s: %s", line->kind, strerrordesc_np(errno));
	complain(text);
	free(text);
	return CONTROL_EXIT_FAILED;
}

static int carry_out(const struct halt_line *line)
{
	struct when now = {0};
	struct request q = {.verb = "schedule",
		.kind = line->kind,
		.by = legacy_by(),
		.when = &now,
		.no_wall = line->no_wall};

	if (line->wtmp_only) {
		write_wtmp();
		return CONTROL_EXIT_OK;
	}
	return line->force ? force(line) : legacy_ask(&q);
}

int run_halt_reboot_poweroff(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	struct halt_line line = {.kind = slash ? slash + 1 : argv[0]};
	int value;

	opterr = 0;
	while ((value = getopt_long(argc, argv, "pfnwdih", OPTIONS, NULL)) != -1) {
		if (!take(value, &line)) {
			(void)fputs(USAGE, stderr);
			return CONTROL_EXIT_USAGE;
		}
	}
	if (line.help || optind < argc) {
		(void)fputs(USAGE, line.help ? stdout : stderr);
		return line.help ? CONTROL_EXIT_OK : CONTROL_EXIT_USAGE;
	}
	return carry_out(&line);
}
