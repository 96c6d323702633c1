/* SPDX-License-Identifier: MIT */
#include "init/shell.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COMMON                                                                             \
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", \
		"TERM=linux", "USER=root"

static void open_console(const char *console, const char *text)
{
	/* After a crash what PID 1 has open is not O_CLOEXEC. */
	(void)close_range(3, ~0U, 0);
	(void)setsid();
	int tty = open(console, O_RDWR | O_NOCTTY);
	if (tty < 0)
		_exit(1);
	(void)ioctl(tty, TIOCSCTTY, 1);
	(void)dup2(tty, STDIN_FILENO);
	(void)dup2(tty, STDOUT_FILENO);
	(void)dup2(tty, STDERR_FILENO);
	(void)dprintf(tty, "\r\nmolt: %s\r\n", text);
	if (chdir("/") < 0)
		_exit(1);
}

void shell_run(const char *console, const char *path, const char *text)
{
	/* The leading dash makes it a login shell. */
	char *argv[] = {"-sh", NULL};
	char *env[] = {COMMON, NULL};

	open_console(console, text);
	(void)execve(path, argv, env);
	_exit(127);
}

static bool is_busybox(const char *path)
{
	char target[256];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	target[n > 0 ? n : 0] = '\0';
	return strstr(target, "busybox") != NULL;
}

void shell_run_login(const char *console, const char *sulogin, const char *shell, const char *text)
{
	/* Where root has no password to ask for, nobody could get in at all: --force lets them. */
	char *argv[] = {"sulogin", is_busybox(sulogin) ? NULL : "--force", NULL};
	char variable[512];
	char *env[] = {COMMON, variable, NULL};

	(void)snprintf(variable, sizeof(variable), "SUSHELL=%s", shell);
	open_console(console, text);
	(void)execve(sulogin, argv, env);
	_exit(127);
}
