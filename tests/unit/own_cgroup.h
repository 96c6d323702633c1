/* SPDX-License-Identifier: MIT */
/* A cgroup of the test's own, below the one it runs in: nothing outside of it is ever touched.
 * Needs root. */
#ifndef MOLT_TESTS_OWN_CGROUP_H
#define MOLT_TESTS_OWN_CGROUP_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/loop.h"
#include "kernel/util.h"

struct own_cgroup {
	int parent, fd;
	char name[64];
	char path[512]; /* as /proc/PID/cgroup shows it */
};

static inline bool find_cgroup2(char *buf, size_t size)
{
	char line[1024], target[512], type[64];
	FILE *f = fopen("/proc/self/mounts", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %511s %63s", target, type) == 2 &&
			strcmp(type, "cgroup2") == 0;
	if (f)
		(void)fclose(f);
	if (found)
		(void)snprintf(buf, size, "%s", target);
	return found;
}

static inline bool own_cgroup_make(struct own_cgroup *c)
{
	char mounted[512], own[400], path[1024];

	if (!find_cgroup2(mounted, sizeof(mounted)) ||
		cgroup_of_pid(getpid(), own, sizeof(own)) < 0)
		return false;
	(void)snprintf(path, sizeof(path), "%s%s", mounted, own);
	(void)snprintf(c->name, sizeof(c->name), "molt-unit-%d", (int)getpid());
	(void)snprintf(
		c->path, sizeof(c->path), "%s/%s", strcmp(own, "/") == 0 ? "" : own, c->name);
	c->parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c->fd = c->parent < 0 ? -1 : cgroup_make(c->parent, c->name);
	return c->fd >= 0;
}

static inline bool own_cgroup_is_empty(const struct own_cgroup *c)
{
	bool populated = true;
	int events = cgroup_open_events(c->fd);

	(void)cgroup_events(events, &populated, NULL);
	(void)fd_close(events);
	return !populated;
}

/* Kills what is in it and removes it. */
static inline bool own_cgroup_end(struct own_cgroup *c)
{
	uint64_t deadline = deadline_in(10 * USEC_PER_SEC);

	(void)cgroup_freeze(c->fd, false);
	(void)cgroup_kill(c->fd);
	while (!own_cgroup_is_empty(c) && clock_usec() < deadline)
		(void)usleep(1000);
	c->fd = fd_close(c->fd);
	int r = cgroup_remove(c->parent, c->name);
	c->parent = fd_close(c->parent);
	return r == 0;
}

static inline void wake(struct loop_timer *t)
{
	(void)t;
}

/* Runs the loop until `done` says so; false: not within ten seconds. */
static inline bool run_until(bool (*done)(void *userdata), void *userdata)
{
	uint64_t deadline = deadline_in(10 * USEC_PER_SEC);
	struct loop_timer timer = {.expired = wake};
	bool is;

	while (!(is = done(userdata)) && clock_usec() < deadline) {
		timer_set(&timer, deadline_in(20 * USEC_PER_MSEC));
		(void)loop_run_once();
	}
	timer_cancel(&timer);
	return is;
}

#endif
