/* SPDX-License-Identifier: MIT */
#include "upgrade/check_state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "kernel/environment.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/build_id.h"

#define STATE_FD 3

/* As it will be executed. But what is preloaded may lie on a mount that is not here: then the
 * loader says so and goes on, and there is nothing to learn from it. */
static void take_environment(char **env)
{
	for (char *const *v = environment_strict(); *v; v++)
		if (!starts_with(*v, "LD_PRELOAD="))
			*env++ = *v;
	*env = NULL;
}

/* execve(2) says ENOENT of a program whose loader is missing, too. A library that is, the loader
 * names itself. */
static void say_why_not(int number)
{
	char loader[256];
	CLEANUP_FD int init = open("/sbin/init", O_RDONLY | O_CLOEXEC);

	if (number == ENOENT && init >= 0 &&
		elf_interpreter_read(init, loader, sizeof(loader)) == 0 && access(loader, F_OK) < 0)
		(void)dprintf(STDERR_FILENO,
			"the loader that it asks for, %s, is not in the image: neither are its libraries, probably (ldd shows which those are; or build the image from packages)\n",
			loader);
	else
		(void)dprintf(STDERR_FILENO, "cannot execute /sbin/init: %s\n", strerror(number));
}

/* dup2(2) leaves one that has the number already as it is, close-on-exec and all. */
static int place(int fd, int number)
{
	return fd == number ? fd_set_cloexec(fd, false) : dup2(fd, number);
}

static void __attribute__((noreturn)) run_init(int root, int state_fd, int output)
{
	char *argv[] = {"/sbin/init", "--check-state", "3", NULL};
	char *env[ENVIRONMENT_MAX + 4];

	take_environment(env);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fchdir(root) < 0 || chroot(".") < 0 || dup2(output, STDOUT_FILENO) < 0 ||
		dup2(output, STDERR_FILENO) < 0 || place(state_fd, STATE_FD) < 0)
		_exit(126);
	(void)execve(argv[0], argv, env);
	say_why_not(errno);
	_exit(127);
}

/* The last line it printed is why it refuses; the lines before are warnings. */
struct words {
	char buf[4096];
	size_t used;
	char last[400];
	int socket;
};

static void take_lines(struct words *w)
{
	char *line = w->buf, *end;

	while ((end = memchr(line, '\n', w->used - (size_t)(line - w->buf)))) {
		*end = '\0';
		if (w->last[0])
			answer_text(w->socket, "warning", w->last);
		(void)snprintf(w->last, sizeof(w->last), "%s", line);
		line = end + 1;
	}
	w->used -= (size_t)(line - w->buf);
	memmove(w->buf, line, w->used);
	if (w->used == sizeof(w->buf) - 1)
		w->used = 0; /* a line longer than any of ours: not worth keeping */
}

/* Until it closes its output, or the deadline. */
static int listen_to(struct words *w, int fd, uint64_t deadline_usec)
{
	for (;;) {
		uint64_t now = clock_usec();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (now >= deadline_usec)
			return -ETIMEDOUT;
		uint64_t msec = (deadline_usec - now) / USEC_PER_MSEC + 1;
		if (poll(&p, 1, msec > 60000 ? 60000 : (int)msec) <= 0)
			continue;
		ssize_t n = read(fd, w->buf + w->used, sizeof(w->buf) - 1 - w->used);
		if (n <= 0)
			return 0;
		w->used += (size_t)n;
		take_lines(w);
	}
}

static int verdict(const char *who, const struct words *w, const siginfo_t *info, struct error *e)
{
	bool ended_well = info->si_code == CLD_EXITED && info->si_status == 0;

	if (ended_well && strcmp(w->last, STATE_CHECK_PASSED) == 0)
		return 0;
	if (ended_well)
		return error_say(e, EINVAL, "%s is not molt: it did not answer --check-state", who);
	if (info->si_code != CLD_EXITED) {
		struct process_exit ended = {
			.known = true, .signal = true, .status = info->si_status};
		char text[64];
		process_exit_describe(&ended, text, sizeof(text));
		return error_say(e, EINVAL, "%s %s when asked whether it could take over%s%s", who,
			text, w->last[0] ? ": " : "", w->last);
	}
	return error_say(e, EINVAL, "%s could not take over (exit code %d): %s", who,
		info->si_status, w->last[0] ? w->last : "it did not say why");
}

int check_state(
	const char *who, int root, int state_fd, uint64_t timeout_usec, int socket, struct error *e)
{
	struct words w = {.socket = socket};
	siginfo_t info = {0};
	int ends[2], pidfd;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(e, errno, "cannot ask %s", who);
	CLEANUP_FD int out = ends[0];
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		run_init(root, state_fd, ends[1]);
	(void)fd_close(ends[1]);
	if (pid < 0)
		return error_set(e, pid, "cannot ask %s%s", who, process_fork_hint(pid));
	int r = listen_to(&w, out, deadline_in(timeout_usec));
	if (r == -ETIMEDOUT) {
		(void)kill(pid, SIGKILL);
		(void)waitid(P_PID, (id_t)pid, &info, WEXITED);
		return error_say(e, ETIMEDOUT,
			"%s did not say within %llu ms whether it could take over", who,
			(unsigned long long)(timeout_usec / USEC_PER_MSEC));
	}
	if (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0)
		return error_set(e, errno, "cannot ask %s", who);
	return verdict(who, &w, &info, e);
}
