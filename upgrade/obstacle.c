/* SPDX-License-Identifier: MIT */
#include "upgrade/obstacle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/inject.h"
#include "kernel/proc.h"
#include "kernel/util.h"

/* A disk that works answers in less. */
#define SLEEP_USEC (100 * USEC_PER_MSEC)
#define SLEEPERS_MAX 8

static void look_at_sleep(struct obstacle *o, pid_t tid)
{
	struct proc_stat stat;
	char where[128];

	if (proc_stat_read(tid, &stat) < 0 || stat.state != 'D')
		return;
	proc_where(tid, where, sizeof(where));
	if (inject_waits_for_vfork(tid)) {
		(void)snprintf(o->delay, sizeof(o->delay),
			"task %d waits in vfork(2) for its child: the upgrade waits for that",
			(int)tid);
		(void)snprintf(o->advice, sizeof(o->advice),
			"if that takes long, end the child of process %d", (int)tid);
	} else {
		(void)snprintf(o->delay, sizeof(o->delay),
			"task %d is in an uninterruptible sleep (%s): nothing can freeze before it wakes",
			(int)tid, where);
		(void)snprintf(o->advice, sizeof(o->advice),
			"see what task %d waits for: a disk or a network file system that does not answer",
			(int)tid);
	}
}

void obstacle_look(struct obstacle *o, pid_t tid)
{
	struct error e;

	if (o->tid == tid)
		return;
	*o = (struct obstacle){.tid = tid};
	look_at_sleep(o, tid);
	if (inject_check(tid, &e) == 0)
		return;
	(void)snprintf(o->why, sizeof(o->why), "%s", e.text);
	o->advice[0] = '\0';
	if (inject_tracer(tid) > 0)
		(void)snprintf(o->advice, sizeof(o->advice),
			"stop the tracing, and the next upgrade moves it along");
}

/* Sleepers */

struct sleeper {
	pid_t tid;
	char comm[32], cgroup[128], where[128];
};

struct sleepers {
	struct sleeper list[SLEEPERS_MAX];
	size_t count;
};

static bool sleeps(pid_t tid, struct sleeper *ret)
{
	struct proc_stat stat;

	/* A parent in vfork(2) counts as frozen. */
	if (proc_stat_read(tid, &stat) < 0 || stat.state != 'D' || inject_waits_for_vfork(tid))
		return false;
	ret->tid = tid;
	(void)snprintf(ret->comm, sizeof(ret->comm), "%s", stat.comm);
	proc_where(tid, ret->where, sizeof(ret->where));
	return true;
}

static int add_sleepers(int cgroup, const char *path, void *userdata)
{
	struct sleepers *s = userdata;
	struct pid_array list = {0};

	if (cgroup_pids(cgroup, "cgroup.threads", &list) < 0)
		list.count = 0;
	for (size_t i = 0; i < list.count && s->count < SLEEPERS_MAX; i++) {
		struct sleeper *new = &s->list[s->count];
		if (!sleeps(list.pids[i], new))
			continue;
		(void)snprintf(new->cgroup, sizeof(new->cgroup), "%s", path);
		s->count++;
	}
	pid_array_free(&list);
	return s->count == SLEEPERS_MAX;
}

void obstacle_find_sleepers(
	int tree, void (*tell)(void *userdata, const char *text), void *userdata)
{
	struct sleepers s = {0};
	struct sleeper now;
	char text[600];

	(void)cgroup_walk(tree, add_sleepers, &s);
	if (s.count > 0)
		(void)usleep(SLEEP_USEC);
	for (size_t i = 0; i < s.count; i++) {
		const struct sleeper *then = &s.list[i];
		if (!sleeps(then->tid, &now) || strcmp(now.where, then->where) != 0)
			continue;
		(void)snprintf(text, sizeof(text),
			"task %d (%s%s%s) is in an uninterruptible sleep (%s): an upgrade is refused as long as it is. See what it waits for: a disk or a network file system that does not answer",
			(int)then->tid, then->comm, *then->cgroup ? ", of " : "", then->cgroup,
			then->where);
		tell(userdata, text);
	}
}
