/* SPDX-License-Identifier: MIT */
/*
 * Which of several images boots, and that it is counted: molt-image(8) knows, and is asked here as
 * any other initramfs asks it, so that there is one truth about the order of the images.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/initramfs.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"

#define PROGRAM "/usr/sbin/molt-image"
/* It reads a file and writes one. */
#define CHOOSE_USEC (60 * USEC_PER_SEC)

static void __attribute__((noreturn)) ask(const char *directory, int answer)
{
	char store[PATH_MAX + 16];
	char *argv[] = {"sh", PROGRAM, "choose", NULL};
	char *env[] = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", store, NULL};

	(void)snprintf(store, sizeof(store), "MOLT_STORE=%s", directory);
	(void)dup2(answer, STDOUT_FILENO);
	(void)execve("/bin/sh", argv, env);
	_exit(127);
}

/* All it says, until it has closed the pipe; false: not in time. */
static bool read_answer(int fd, char *buf, size_t size)
{
	uint64_t deadline = deadline_in(CHOOSE_USEC);
	size_t used = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_usec();
		int left = now < deadline ? (int)((deadline - now) / USEC_PER_MSEC) + 1 : 0;
		int ready = poll(&p, 1, left);
		if (ready == 0)
			return false;
		if (ready < 0 && errno != EINTR)
			return false;
		ssize_t n = ready > 0 ? read(fd, buf + used, size - 1 - used) : -1;
		if (n < 0)
			continue;
		used += (size_t)n;
		buf[used] = '\0';
		if (n == 0)
			return used > 0;
	}
}

/* The whole of it is one line, and a path in that directory. */
static bool is_answer(char *text, const char *directory)
{
	char *end = strchr(text, '\n');
	size_t n = strlen(directory);

	if (!end || end[1])
		return false;
	*end = '\0';
	return strncmp(text, directory, n) == 0 && text[n] == '/';
}

int initramfs_choose(const char *directory, char path[PATH_MAX], struct error *e)
{
	char text[PATH_MAX] = "";
	int ends[2], pidfd = -1, status = 0;

	if (access(PROGRAM, R_OK) < 0)
		return error_set(e, errno,
			"molt.images= needs " PROGRAM
			" in the initramfs, and busybox (molt-initramfs --molt-image)");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(e, errno, "cannot ask which image boots");
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		ask(directory, ends[1]);
	(void)fd_close(ends[1]);
	bool answered = pid > 0 && read_answer(ends[0], text, sizeof(text));
	(void)fd_close(ends[0]);
	(void)fd_close(pidfd);
	if (pid > 0 && !answered)
		(void)kill(pid, SIGKILL);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0)
		return error_set(e, (int)pid, "cannot ask which image boots");
	if (!answered || !WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
		!is_answer(text, directory))
		return error_say(e, ENOENT,
			"molt-image names no image to boot in %s (molt.images=): what it says of that stands above",
			directory);
	(void)snprintf(path, PATH_MAX, "%s", text);
	log_notice("the image that boots is %s", path);
	return 0;
}
