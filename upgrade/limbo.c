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
/* Tasks that a life before has seized, and in whose tree. */
static unsigned n_strays;
static int strays_tree;
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

static int release_strays_of(int cgroup, const char *path, void *userdata)
{
	struct pid_array list = {0};

	(void)userdata;
	if (cgroup_pids(cgroup, "cgroup.threads", &list) < 0)
		log_warning("cannot tell whether a task of %s is still traced", path);
	for (size_t i = 0; i < list.count; i++) {
		int r = inject_release_stray(list.pids[i]);
		if (r > 0)
			log_notice("task %d was left seized by a life before, and is let go",
				(int)list.pids[i]);
		n_strays += r < 0;
	}
	pid_array_free(&list);
	return 0;
}

static void look_for_strays(void)
{
	n_strays = 0;
	(void)cgroup_walk(strays_tree, release_strays_of, NULL);
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
	if (n_strays)
		look_for_strays();
	if (count || n_strays)
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

bool limbo_bars_exec(void)
{
	for (unsigned i = 0; i < count; i++)
		if (inject_is_borrowed(waiting[i]))
			return true;
	return !settle_is_done();
}

bool limbo_is_empty(void)
{
	return count == 0 && n_strays == 0 && settle_is_done();
}

void limbo_release_strays(int tree)
{
	strays_tree = tree;
	look_for_strays();
	if (n_strays == 0)
		return;
	log_warning("%u tasks that a life before has seized do not answer", n_strays);
	timer.expired = try_again;
	timer_set(&timer, deadline_in(RETRY_USEC));
}
