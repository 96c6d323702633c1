/* SPDX-License-Identifier: MIT */
#include "init/shell.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

void shell_run(const char *console, const char *path, const char *text)
{
	/* The leading dash makes it a login shell. */
	char *argv[] = {"-sh", NULL};
	char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "TERM=linux", "USER=root", NULL};

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
	(void)execve(path, argv, env);
	_exit(127);
}
