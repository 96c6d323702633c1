/* SPDX-License-Identifier: MIT */
#include "upgrade/limbo.h"

#include <errno.h>
#include <stddef.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"
#include "upgrade/settle.h"

/* A migration seizes thousands of tasks, but they have all just frozen: hardly one of them does not
 * answer. */
#define LIMBO_MAX 256
#define RELEASE_USEC (50 * USEC_PER_MSEC)
#define RETRY_USEC (20 * USEC_PER_MSEC)

static struct inject_target *waiting[LIMBO_MAX];
static unsigned count;
static struct loop_timer timer;

/* Whether it is done with, one way or the other. */
static bool release(struct inject_target *t, uint64_t usec)
{
	struct error e;
	int r = inject_release(t, deadline_in(usec), &e);

	if (r < 0 && r != -ESRCH && r != -ETIMEDOUT)
		log_error("%s", e.text);
	return r != -ETIMEDOUT;
}

static void try_again(struct loop_timer *t)
{
	unsigned left = 0;

	(void)t;
	for (unsigned i = 0; i < count; i++) {
		pid_t tid = inject_tid(waiting[i]);
		if (release(waiting[i], 0))
			log_notice("task %d has answered at last and goes on", (int)tid);
		else
			waiting[left++] = waiting[i];
	}
	count = left;
	if (count)
		timer_set(&timer, deadline_in(RETRY_USEC));
}

void limbo_release(struct inject_target *t)
{
	if (!t || release(t, RELEASE_USEC))
		return;
	log_error("task %d does not answer; it is let go as soon as it does", (int)inject_tid(t));
	if (count == LIMBO_MAX) {
		log_error("task %d stays stopped: too many do not answer", (int)inject_tid(t));
		return;
	}
	waiting[count++] = t;
	timer.expired = try_again;
	timer_set(&timer, deadline_in(RETRY_USEC));
}

bool limbo_is_empty(void)
{
	return count == 0 && settle_is_done();
}

static int release_strays_of(int cgroup, const char *path, void *userdata)
{
	struct pid_array list = {0};

	(void)userdata;
	if (cgroup_pids(cgroup, "cgroup.threads", &list) < 0)
		log_warning("cannot tell whether a task of %s is still traced", path);
	for (size_t i = 0; i < list.count; i++) {
		int r = inject_release_stray(list.pids[i]);
		if (r)
			log_warning("task %d was left seized by a crash, and %s", (int)list.pids[i],
				r < 0 ? "does not answer" : "is let go");
	}
	pid_array_free(&list);
	return 0;
}

void limbo_release_strays(int tree)
{
	(void)cgroup_walk(tree, release_strays_of, NULL);
}
