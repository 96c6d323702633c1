/* SPDX-License-Identifier: MIT */
#include "upgrade/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "upgrade/child.h"
#include "upgrade/hook_runner.h"
#include "upgrade/report.h"

#define CGROUP_NAME "molt-hooks"

static int tree_fd = -1;
static struct child child = CHILD_NONE;
static void (*done_hook)(const char *failure);

static enum hook_kind kind;
static uint64_t timeout_usec;
static char current[512]; /* the one that runs; "": between two */
static uint64_t began_usec;
static char failure[1024];
static bool all_done;

/* What is over, and goes once nobody is in it: that takes a moment after its last word. */
static struct loop_source remains = {.fd = -1};

static void forget_remains(void)
{
	int fd = remains.fd;

	loop_remove(&remains);
	(void)fd_close(fd);
}

static void remains_changed(struct loop_source *s, uint32_t events)
{
	bool populated;

	(void)events;
	if (cgroup_events(s->fd, &populated, NULL) == 0 && populated)
		return;
	forget_remains();
	int r = cgroup_remove(tree_fd, CGROUP_NAME);
	if (r < 0)
		log_debug("cannot remove the cgroup of hooks: %s", strerror(-r));
}

/* A new descriptor of these events has something to tell at once. */
static int watch_remains(int cgroup)
{
	int fd = cgroup_open_events(cgroup);

	if (fd < 0)
		return fd;
	remains.ready = remains_changed;
	int r = loop_add(&remains, fd, EPOLLPRI);
	if (r < 0)
		(void)fd_close(fd);
	return r;
}

static int open_remains(void)
{
	int fd = openat(tree_fd, CGROUP_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void hooks_init(int tree)
{
	tree_fd = tree;
	/* Of a life before. */
	CLEANUP_FD int cgroup = open_remains();
	if (cgroup >= 0)
		(void)watch_remains(cgroup);
}

void hooks_kill_left_over(void)
{
	CLEANUP_FD int cgroup = open_remains();

	if (cgroup == -ENOENT)
		return;
	int r = cgroup < 0 ? cgroup : cgroup_kill(cgroup);
	if (r < 0)
		log_error("cannot kill what hooks have left: %s", strerror(-r));
	/* Or else it goes when the next ones run. */
	if (cgroup >= 0 && remains.fd < 0 && !child_is_busy(&child))
		(void)watch_remains(cgroup);
}

static void end(void)
{
	hooks_kill_left_over();
	done_hook(failure[0] ? failure : NULL);
}

static void hook_ended(const struct record *r)
{
	const char *why = record_get(r, "failure");

	timer_cancel(&child.timer);
	if (why)
		(void)snprintf(failure, sizeof(failure), "%s", why);
	if (current[0])
		report_hook(hook_kind_name(kind), current, clock_usec() - began_usec,
			record_get(r, "last"), why);
	current[0] = '\0';
}

static void take_answer(struct child *c, struct child_answer *a)
{
	const struct record *r = a->record;
	const char *text = record_get(r, "text");

	(void)c;
	if (strcmp(r->kind, "hook") == 0) {
		(void)snprintf(current, sizeof(current), "%s", r->id);
		began_usec = clock_usec();
		timer_set(&child.timer, deadline_in(timeout_usec));
		log_info("%s%s begins", kind == HOOK_BOOT_GOOD ? "" : "upgrade: ", current);
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

static void ended(struct child *c, int r)
{
	(void)c;
	(void)r;
	if (!all_done && !failure[0])
		(void)snprintf(failure, sizeof(failure),
			"the process that runs the %s hooks ended before they had%s%s",
			hook_kind_name(kind), current[0] ? ", in the middle of " : "", current);
	end();
}

static void late(struct child *c)
{
	(void)c;
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
	if (!child_is_busy(&child))
		return;
	child_cancel(&child);
	hooks_kill_left_over();
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
	forget_remains();
	(void)cgroup_remove(tree_fd, CGROUP_NAME); /* what ends only now goes with this one */
	CLEANUP_FD int all = cgroup_make(tree_fd, CGROUP_NAME);
	if (all < 0)
		return all;
	(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)clock_usec());
	return cgroup_make(all, name);
}

int hooks_begin(const struct hooks_request *q, void (*done)(const char *failure), struct error *e)
{
	static const struct child_hooks hooks = {take_answer, ended, late};
	CLEANUP_FD int cgroup = make_cgroup();
	int socket;

	pid_t pid = cgroup < 0 ? cgroup
			       : child_fork(&child, cgroup, &hooks, deadline_in(q->timeout_usec),
					 &socket);
	if (pid == 0)
		hook_runner(q, cgroup, socket);
	if (pid < 0)
		return error_set(e, pid, "cannot run the %s hooks", hook_kind_name(q->kind));
	kind = q->kind;
	timeout_usec = q->timeout_usec;
	done_hook = done;
	current[0] = failure[0] = '\0';
	all_done = false;
	return 0;
}
