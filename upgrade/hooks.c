/* SPDX-License-Identifier: MIT */
#include "upgrade/hooks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/answer.h"
#include "upgrade/hook_runner.h"
#include "upgrade/report.h"

#define CGROUP_NAME "molt-hooks"

static int tree_fd = -1;
static struct process child = {.source.fd = -1};
static struct loop_source answers = {.fd = -1};
static struct loop_timer timer;
static void (*done_hook)(const char *failure);

static enum hook_kind kind;
static uint64_t timeout_usec;
static char current[512]; /* the one that runs; "": between two */
static uint64_t began_usec;
static char failure[1024];
static bool all_done;

void hooks_init(int tree)
{
	tree_fd = tree;
}

static void stop_listening(void)
{
	int fd = answers.fd;

	loop_remove(&answers);
	(void)fd_close(fd);
	timer_cancel(&timer);
}

void hooks_kill_left_over(void)
{
	CLEANUP_FD int cgroup = cgroup_make(tree_fd, CGROUP_NAME);
	int r = cgroup < 0 ? cgroup : cgroup_kill(cgroup);

	if (r < 0)
		log_error("cannot kill what hooks have left: %s", strerror(-r));
}

static void end(void)
{
	stop_listening();
	hooks_kill_left_over();
	/* The child may not have been reaped yet: that is the reaper's. */
	process_forget(&child);
	done_hook(failure[0] ? failure : NULL);
}

static void hook_ended(const struct record *r)
{
	const char *why = record_get(r, "failure");

	timer_cancel(&timer);
	if (why)
		(void)snprintf(failure, sizeof(failure), "%s", why);
	if (current[0])
		report_hook(hook_kind_name(kind), current, clock_usec() - began_usec,
			record_get(r, "last"), why);
	current[0] = '\0';
}

static void take_record(const struct record *r)
{
	const char *text = record_get(r, "text");

	if (strcmp(r->kind, "hook") == 0) {
		(void)snprintf(current, sizeof(current), "%s", r->id);
		began_usec = clock_usec();
		timer_set(&timer, deadline_in(timeout_usec));
		log_info("upgrade: %s begins", current);
	} else if (strcmp(r->kind, "line") == 0 && text) {
		log_info("%s: %s", current, text);
	} else if (strcmp(r->kind, "warning") == 0 && text) {
		log_warning("%s", text);
		report_warning(text);
	} else if (strcmp(r->kind, "ended") == 0) {
		hook_ended(r);
	} else if (strcmp(r->kind, "done") == 0) {
		all_done = true;
	}
}

static void take_packet(const char *buf, size_t length)
{
	struct record_reader *reader;
	struct record r;

	if (record_reader_new(&reader, buf, length) < 0)
		return;
	if (record_next(reader, &r) == 1)
		take_record(&r);
	record_reader_free(reader);
}

static void answers_ready(struct loop_source *s, uint32_t events)
{
	static char buf[CONTROL_PACKET_MAX];
	int fd;
	ssize_t n = answer_receive(s->fd, buf, sizeof(buf), &fd);

	(void)events;
	(void)fd_close(fd);
	if (n == -EAGAIN || n == -EINTR || n == -EMSGSIZE)
		return;
	if (n > 0) {
		take_packet(buf, (size_t)n);
		return;
	}
	if (!all_done && !failure[0])
		(void)snprintf(failure, sizeof(failure),
			"the process that runs the %s hooks ended before they had%s%s",
			hook_kind_name(kind), current[0] ? ", in the middle of " : "", current);
	end();
}

static void timer_expired(struct loop_timer *t)
{
	(void)t;
	if (current[0])
		(void)snprintf(failure, sizeof(failure),
			"%s did not end within %llu ms (HookTimeoutSec=) and was killed", current,
			(unsigned long long)(timeout_usec / USEC_PER_MSEC));
	else
		(void)snprintf(failure, sizeof(failure),
			"the %s hooks could not be listed within %llu ms (HookTimeoutSec=)",
			hook_kind_name(kind), (unsigned long long)(timeout_usec / USEC_PER_MSEC));
	if (current[0])
		report_hook(
			hook_kind_name(kind), current, clock_usec() - began_usec, NULL, failure);
	end();
}

void hooks_cancel(void)
{
	if (answers.fd < 0)
		return;
	stop_listening();
	hooks_kill_left_over();
	process_forget(&child);
}

/*
 * A cgroup for one run. Never one that was there before: on some kernels (6.18 is one) what
 * clone3(2) makes in a cgroup that was killed once is killed as well. With CLONE_INTO_CGROUP,
 * kernel/cgroup/cgroup.c compares the count of kills of two different cgroups.
 */
static int make_cgroup(void)
{
	char name[32];

	hooks_kill_left_over();
	(void)cgroup_remove(tree_fd, CGROUP_NAME); /* what ends only now goes another time */
	CLEANUP_FD int all = cgroup_make(tree_fd, CGROUP_NAME);
	if (all < 0)
		return all;
	(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)clock_usec());
	return cgroup_make(all, name);
}

static int start(const struct hooks_request *q, int socket)
{
	CLEANUP_FD int cgroup = make_cgroup();
	int pidfd;

	if (cgroup < 0)
		return cgroup;
	pid_t pid = process_fork(cgroup, &pidfd);
	if (pid == 0)
		hook_runner(q, cgroup, socket);
	if (pid < 0)
		return pid;
	process_forget(&child);
	return process_watch(&child, pid, pidfd);
}

int hooks_begin(const struct hooks_request *q, void (*done)(const char *failure), struct error *e)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(e, errno, "cannot run the %s hooks", hook_kind_name(q->kind));
	answers.ready = answers_ready;
	int r = loop_add(&answers, ends[0], EPOLLIN);
	if (r < 0)
		(void)fd_close(ends[0]);
	else if ((r = start(q, ends[1])) < 0)
		stop_listening();
	(void)fd_close(ends[1]);
	if (r < 0)
		return error_set(e, r, "cannot run the %s hooks", hook_kind_name(q->kind));
	kind = q->kind;
	timeout_usec = q->timeout_usec;
	done_hook = done;
	current[0] = failure[0] = '\0';
	all_done = false;
	timer.expired = timer_expired;
	timer_set(&timer, deadline_in(timeout_usec));
	return 0;
}
