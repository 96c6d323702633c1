/* SPDX-License-Identifier: MIT */
#include "init/stages/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/cmdline.h"
#include "conf/files.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"

#define TOOL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const char *tool_find(const char *name)
{
	static const char *const DIRECTORIES[] = {"/usr/sbin", "/sbin", "/usr/bin", "/bin"};
	static char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(DIRECTORIES); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", DIRECTORIES[i], name);
		if (access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

int tool_exec(const char *path, char *const argv[])
{
	(void)setenv("PATH", TOOL_PATH, 1);
	execv(path, argv);
	log_error("cannot execute %s: %s", path, strerror(errno));
	return 127;
}

int tool_run(const char *path, char *const argv[])
{
	pid_t parent = getpid(), pid = fork();
	int status;

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* It may have been killed just before that. */
		_exit(getppid() == parent ? tool_exec(path, argv) : 127);
	}
	if (pid < 0) {
		log_error("cannot fork for %s: %s", path, strerror(errno));
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Of a namespace's PID 1: a later life has other arguments. */
static char arguments[4096];

const char *boot_arguments(void)
{
	if (sys.real || arguments[0])
		return arguments;
	ssize_t n = file_read(AT_FDCWD, "/proc/1/cmdline", arguments, sizeof(arguments));
	for (ssize_t i = 0; i < n; i++)
		if (!arguments[i])
			arguments[i] = ' ';
	return arguments;
}

void boot_set_arguments(const char *text)
{
	(void)snprintf(arguments, sizeof(arguments), "%s", text);
}

bool boot_option(const char *key, char *buf, size_t size)
{
	char line[8192];

	if (!sys.real)
		return cmdline_get(boot_arguments(), key, buf, size);
	return file_read(AT_FDCWD, "/proc/cmdline", line, sizeof(line)) > 0 &&
	       cmdline_get(line, key, buf, size);
}

static void visit_lines(char *text, const char *path,
	void (*visit)(const char *line, const char *place, void *data), void *data)
{
	unsigned number = 0;
	char place[300];

	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		(void)snprintf(place, sizeof(place), "%s:%u", path, ++number);
		visit(line, place, data);
	}
}

void file_lines(const char *path, void (*visit)(const char *line, const char *place, void *data),
	void *data)
{
	CLEANUP_FREE char *text = NULL;
	size_t length;
	struct error e;
	int r = conf_file_read(AT_FDCWD, path, &text, &length, &e);

	if (r == 0)
		visit_lines(text, path, visit, data);
	else if (r != -ENOENT && r != -ERFKILL)
		log_warning("%s", e.text);
}

void dropin_lines(const char *name, void (*visit)(const char *line, const char *place, void *data),
	void *data)
{
	static const char *const PLACES[] = {"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"};
	struct dropins files = {0};
	struct error e;

	for (size_t i = 0; i < ARRAY_SIZE(PLACES); i++)
		if (dropins_collect(&files, AT_FDCWD, PLACES[i], name, &e) < 0)
			log_warning("%s", e.text);
	dropins_sort(&files);
	for (size_t i = 0; i < files.count; i++)
		file_lines(files.items[i].path, visit, data);
	dropins_done(&files);
}
