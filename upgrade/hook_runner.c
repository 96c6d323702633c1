/* SPDX-License-Identifier: MIT */
#include "upgrade/hook_runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"

/* What one hook may say in the log of PID 1, which is bounded and has others' lines as well. */
#define LINES_MAX 100
#define LINE_MAX_BYTES 400
#define ROOT_FD 3

struct runner {
	const struct hooks_request *request;
	int socket, cgroup;
	unsigned n_run;
	char root_path[32], numbers[2][48];
	char phase[48], image[4200], root[64];
	char *environment[8];
};

/* What a hook has printed. */
struct output {
	char line[LINE_MAX_BYTES];
	size_t used;
	char last[LINE_MAX_BYTES]; /* the last line with anything in it */
	uint64_t n_lines;
	int socket;
};

static void end_line(struct output *o)
{
	o->line[o->used] = '\0';
	o->used = 0;
	if (!o->line[strspn(o->line, " \t")])
		return;
	memcpy(o->last, o->line, sizeof(o->last));
	if (o->n_lines++ < LINES_MAX)
		answer_text(o->socket, "line", o->line);
}

static void take_output(struct output *o, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '\n' || c == '\r')
			end_line(o);
		else if (o->used < sizeof(o->line) - 1) /* the rest of a longer one is dropped */
			o->line[o->used++] =
				c < ' ' || c == 0x7f ? (c == '\t' ? ' ' : '?') : (char)c;
	}
}

/* False at its end, or when there is nothing to read now. */
static bool read_output(struct output *o, int fd)
{
	char buf[16384];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0)
		take_output(o, buf, (size_t)n);
	return n > 0 || (n < 0 && errno == EINTR);
}

/* Until the hook itself has ended: a daemon that it has left may keep its output open for ever. */
static void listen_to(struct output *o, int fd, int pidfd)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

	while (!(p[1].revents & POLLIN)) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents && !read_output(o, fd) && (p[0].revents & POLLHUP))
			p[0].fd = -1; /* it has closed its output and runs on */
	}
	/* What is in the pipe is at most its size, unless somebody goes on writing. */
	for (unsigned i = 0; i < 64 && read_output(o, fd); i++)
		;
	end_line(o);
	if (o->n_lines > LINES_MAX) {
		char text[80];
		(void)snprintf(text, sizeof(text), "(it said %llu lines more)",
			(unsigned long long)(o->n_lines - LINES_MAX));
		answer_text(o->socket, "line", text);
	}
}

static void __attribute__((noreturn)) run_hook(const struct runner *r, const char *path, int output)
{
	char *argv[] = {(char *)path, NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)setsid();
	if (chdir("/") < 0 || (null >= 0 && dup2(null, STDIN_FILENO) < 0) ||
		dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0 ||
		(r->request->root >= 0 && dup2(r->request->root, ROOT_FD) < 0))
		_exit(126);
	(void)execve(path, argv, r->environment);
	(void)dprintf(STDERR_FILENO, "cannot execute %s: %s%s\n", path, strerror(errno),
		errno == ENOENT    ? " (is its interpreter there?)"
		: errno == ENOEXEC ? " (is its first line #!/bin/sh or the like?)"
				   : "");
	_exit(127);
}

static void describe_failure(
	const struct output *o, const char *path, const siginfo_t *info, char *buf, size_t size)
{
	struct process_exit ended = {
		.known = true, .signal = info->si_code != CLD_EXITED, .status = info->si_status};
	char how[64];

	if (ended.signal)
		process_exit_describe(&ended, how, sizeof(how));
	else
		(void)snprintf(how, sizeof(how), "exited with %d", ended.status);
	(void)snprintf(buf, size, "%s %s%s%s", path, how, o->last[0] ? ": " : "", o->last);
}

static void tell_end(const struct runner *r, const struct output *o, const char *failure)
{
	struct record_writer w = {0};

	record_begin(&w, "ended", "");
	record_text(&w, "last", o->last[0] ? o->last : NULL);
	record_text(&w, "failure", failure);
	record_end(&w);
	answer_send(r->socket, &w);
}

static void tell_begin(const struct runner *r, const char *path)
{
	struct record_writer w = {0};

	record_begin(&w, "hook", path);
	record_end(&w);
	answer_send(r->socket, &w);
}

static int start(
	const struct runner *r, int cgroup, const char *path, int *ret_output, int *ret_pidfd)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = process_fork(cgroup, ret_pidfd);
	if (pid == 0)
		run_hook(r, path, ends[1]);
	(void)fd_close(ends[1]);
	/* Whoever writes on after the hook's end must not keep us reading. */
	if (pid < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
		(void)fd_close(ends[0]);
		return pid < 0 ? pid : -errno;
	}
	*ret_output = ends[0];
	return pid;
}

/* False if it has failed. */
static bool run(struct runner *r, const char *path)
{
	struct output o = {.socket = r->socket};
	siginfo_t info = {0};
	char failure[LINE_MAX_BYTES + 600], name[16];
	int output = -1, pidfd = -1;

	tell_begin(r, path);
	/* Removed since the list was read: somebody does not want it any more. */
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		answer_text(r->socket, "line", "it is gone meanwhile");
		tell_end(r, &o, NULL);
		return true;
	}
	(void)snprintf(name, sizeof(name), "%u", ++r->n_run);
	CLEANUP_FD int cgroup = cgroup_make(r->cgroup, name);
	pid_t pid = cgroup < 0 ? cgroup : start(r, cgroup, path, &output, &pidfd);
	if (pid < 0) {
		(void)snprintf(
			failure, sizeof(failure), "cannot start %s: %s", path, strerror(-pid));
		tell_end(r, &o, failure);
		return false;
	}
	listen_to(&o, output, pidfd);
	if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
		_exit(1);
	(void)fd_close(output);
	(void)fd_close(pidfd);
	(void)cgroup_kill(cgroup);
	bool well = info.si_code == CLD_EXITED && info.si_status == 0;
	describe_failure(&o, path, &info, failure, sizeof(failure));
	tell_end(r, &o, well ? NULL : failure);
	return well;
}

static void make_environment(struct runner *r)
{
	const struct hooks_request *q = r->request;
	size_t n = 0;

	r->environment[n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	(void)snprintf(r->phase, sizeof(r->phase), "MOLT_PHASE=%s", hook_kind_name(q->kind));
	r->environment[n++] = r->phase;
	(void)snprintf(
		r->numbers[0], sizeof(r->numbers[0]), "MOLT_OLD_GENERATION=%u", q->old_generation);
	r->environment[n++] = r->numbers[0];
	(void)snprintf(
		r->numbers[1], sizeof(r->numbers[1]), "MOLT_NEW_GENERATION=%u", q->new_generation);
	r->environment[n++] = r->numbers[1];
	(void)snprintf(r->image, sizeof(r->image), "MOLT_IMAGE=%s", q->image ? q->image : "");
	if (q->image)
		r->environment[n++] = r->image;
	(void)snprintf(r->root, sizeof(r->root), "%s=/proc/self/fd/%d",
		q->root_name ? q->root_name : "", ROOT_FD);
	if (q->root >= 0)
		r->environment[n++] = r->root;
	if (q->rollback)
		r->environment[n++] = "MOLT_ROLLBACK=yes";
	r->environment[n] = NULL;
}

static void warn(void *userdata, const char *text)
{
	const struct runner *r = userdata;

	answer_text(r->socket, "warning", text);
}

/* All but those two or three, one of which may be -1. It takes no descriptor: there may be none
 * left. */
static int close_all_but(const int keep[3])
{
	int sorted[3] = {keep[0], keep[1], keep[2]};
	unsigned from = 3;

	for (int i = 0; i < 3; i++)
		for (int j = i + 1; j < 3; j++)
			if (sorted[j] < sorted[i]) {
				int swap = sorted[i];
				sorted[i] = sorted[j];
				sorted[j] = swap;
			}
	for (int i = 0; i < 3; i++) {
		if (sorted[i] < 3)
			continue;
		if ((unsigned)sorted[i] > from && close_range(from, (unsigned)sorted[i] - 1, 0) < 0)
			return -errno;
		from = (unsigned)sorted[i] + 1;
	}
	return close_range(from, ~0U, 0) < 0 ? -errno : 0;
}

/* This is a copy of PID 1: what it has open is not to live on here, as sockets that still queue
 * clients. The three that are needed become the lowest but ROOT_FD, which is the hook's. */
static int close_the_rest(struct runner *r, struct hooks_request *q)
{
	int fds[] = {r->socket, r->cgroup, q->root};
	int s = close_all_but(fds);

	for (int i = 0; s == 0 && i < 3; i++)
		if (fds[i] >= 0 && (fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 7)) < 0)
			s = -errno;
	for (int i = 0; s == 0 && i < 3; i++)
		if (fds[i] >= 0 && dup3(fds[i], 4 + i, O_CLOEXEC) < 0)
			s = -errno;
	if (s < 0)
		return s;
	r->socket = 4;
	r->cgroup = 5;
	q->root = fds[2] >= 0 ? 6 : -1;
	(void)close(3);
	return close_range(q->root >= 0 ? 7 : 6, ~0U, 0) < 0 ? -errno : 0;
}

void hook_runner(const struct hooks_request *request, int cgroup, int socket)
{
	struct hooks_request q = *request;
	struct runner r = {.request = &q, .socket = socket, .cgroup = cgroup};
	struct hook_list list;
	struct error e;
	int closed = close_the_rest(&r, &q);

	make_environment(&r);
	if (closed < 0) {
		struct output none = {0};
		(void)error_set(&e, closed, "cannot run the %s hooks", hook_kind_name(q.kind));
		tell_end(&r, &none, e.text);
		_exit(0);
	}
	if (hook_list_read(&list, AT_FDCWD, q.kind, warn, &r, &e) < 0) {
		struct output none = {0};
		tell_end(&r, &none, e.text);
		_exit(0);
	}
	bool well = true;
	for (size_t i = 0; well && i < list.count; i++)
		well = run(&r, list.paths[i]);
	hook_list_free(&list);
	if (well)
		answer_text(r.socket, "done", "");
	_exit(0);
}
