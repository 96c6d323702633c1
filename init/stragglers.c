/* SPDX-License-Identifier: MIT */
#include "init/stragglers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "init/system.h"
#include "init/waiting.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "services/set.h"

static bool (*spared)(const struct service *s);
static void (*gone_hook)(void);
static struct loop_source events = {.fd = -1};

void stragglers_spare(bool (*stays)(const struct service *s))
{
	spared = stays;
}

/* `path` is below the tree: SERVICE/INSTANCE/..., or something that is no service's. */
static bool is_spared(const char *path)
{
	char name[300];

	(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(path, "/"), path);
	const struct service *s = name[0] ? set_find(name) : NULL;
	return s && spared(s);
}

static int collect(int cgroup, const char *path, void *list)
{
	int r = is_spared(path) ? 0 : cgroup_pids(cgroup, "cgroup.procs", list);

	return r == -ENODEV || r == -ENOENT ? 0 : r; /* removed while we looked */
}

/* Only what is right below the tree, of which cgroup.kill and cgroup.events are of all below. */
static bool is_one_of_them(const char *path)
{
	return *path && !strchr(path, '/') && !is_spared(path);
}

static int kill_cgroup(int cgroup, const char *path, void *userdata)
{
	(void)userdata;
	if (is_one_of_them(path))
		(void)cgroup_kill(cgroup);
	return 0;
}

bool stragglers_are_left(void)
{
	struct pid_array list = {0};
	/* What cannot be looked at may be there. */
	bool left = cgroup_walk(sys.tree, collect, &list) != 0 || list.count > 0;

	pid_array_free(&list);
	return left;
}

void stragglers_signal(int signal)
{
	struct pid_array list = {0};

	if (signal == SIGKILL)
		(void)cgroup_walk(sys.tree, kill_cgroup, NULL);
	(void)cgroup_walk(sys.tree, collect, &list);
	for (size_t i = 0; i < list.count; i++)
		(void)kill(list.pids[i], signal);
	pid_array_free(&list);
}

void stragglers_name(bool killed)
{
	struct pid_array list = {0};

	(void)cgroup_walk(sys.tree, collect, &list);
	waiting_for_pids(&list, killed);
	pid_array_free(&list);
}

/* Waking */

static void events_ready(struct loop_source *s, uint32_t what)
{
	char buf[4096] __attribute__((aligned(8)));

	(void)what;
	while (read(s->fd, buf, sizeof(buf)) > 0)
		; /* which it was is found out by looking */
	gone_hook();
}

/* cgroups(7): a change of cgroup.events is told by inotify(7) as well. */
static int watch_cgroup(int cgroup, const char *path, void *userdata)
{
	const int *inotify = userdata;
	char place[64];

	if (!is_one_of_them(path))
		return 0;
	(void)snprintf(place, sizeof(place), "/proc/self/fd/%d/cgroup.events", cgroup);
	(void)inotify_add_watch(*inotify, place, IN_MODIFY); /* removed while we looked */
	return 0;
}

void stragglers_watch(void (*gone)(void))
{
	CLEANUP_FD int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	stragglers_forget();
	gone_hook = gone;
	events.ready = events_ready;
	if (inotify < 0 || loop_add(&events, inotify, EPOLLIN) < 0) {
		log_warning("cannot watch the processes that are left: %s", strerror(errno));
		return;
	}
	(void)cgroup_walk(sys.tree, watch_cgroup, &inotify);
	(void)fd_steal(&inotify);
}

void stragglers_forget(void)
{
	int inotify = events.fd;

	if (inotify < 0)
		return;
	loop_remove(&events);
	(void)fd_close(inotify);
}
