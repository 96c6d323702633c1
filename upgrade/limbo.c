/* SPDX-License-Identifier: MIT */
#include "upgrade/limbo.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/settle.h"

/* A migration seizes thousands of tasks, but they have all just frozen: hardly one of them does not
 * answer. */
#define LIMBO_MAX 256
#define RELEASE_USEC (50 * USEC_PER_MSEC)
#define RETRY_USEC (20 * USEC_PER_MSEC)
#define RETRY_USEC_MAX (500 * USEC_PER_MSEC)

static struct {
	struct inject_target *target;
	bool killed; /* by us: it will not run again, whatever its registers are */
} waiting[LIMBO_MAX];
static unsigned count;
/* Tasks that a life before has seized, and in whose tree. */
static pid_t strays[LIMBO_MAX];
static unsigned n_strays;
static int strays_tree;
static bool settle_is_left; /* to the next life */
static struct loop_timer timer;
static uint64_t pause_usec;

/* Whether it is done with, one way or the other. */
static bool release(struct inject_target *t, uint64_t usec)
{
	struct error e;
	int r = inject_release(t, deadline_in(usec), &e);

	if (r < 0 && r != -ESRCH && r != -ETIMEDOUT)
		log_error("%s", e.text);
	return r != -ETIMEDOUT;
}

/* Whether it is let go. */
static bool release_stray(pid_t tid, uint64_t usec)
{
	int r = inject_release_stray(tid, deadline_in(usec));

	if (r > 0)
		log_notice("task %d was left seized by a life before, and is let go", (int)tid);
	return r >= 0;
}

static int find_strays_of(int cgroup, const char *path, void *userdata)
{
	struct pid_array list = {0};

	(void)userdata;
	if (cgroup_pids(cgroup, "cgroup.threads", &list) < 0)
		log_warning("cannot tell whether a task of %s is still traced", path);
	for (size_t i = 0; i < list.count && n_strays < LIMBO_MAX; i++)
		if (!release_stray(list.pids[i], RELEASE_USEC))
			strays[n_strays++] = list.pids[i];
	pid_array_free(&list);
	return 0;
}

static void try_again(struct loop_timer *t);

static void try_again_soon(void)
{
	pause_usec = RETRY_USEC;
	timer.expired = try_again;
	timer_set(&timer, deadline_in(pause_usec));
}

static void try_again(struct loop_timer *t)
{
	unsigned left = 0;

	for (unsigned i = 0; i < count; i++) {
		pid_t tid = inject_tid(waiting[i].target);
		if (release(waiting[i].target, 0))
			log_notice("task %d has answered at last and goes on", (int)tid);
		else
			waiting[left++] = waiting[i];
	}
	count = left;
	left = 0;
	for (unsigned i = 0; i < n_strays; i++)
		if (!release_stray(strays[i], 0))
			strays[left++] = strays[i];
	n_strays = left;
	pause_usec = pause_usec * 2 < RETRY_USEC_MAX ? pause_usec * 2 : RETRY_USEC_MAX;
	if (count || n_strays)
		timer_set(t, deadline_in(pause_usec));
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
	waiting[count].target = t;
	waiting[count++].killed = false;
	try_again_soon();
}

static bool is_lost_by_exec(unsigned i)
{
	return inject_is_borrowed(waiting[i].target) && !waiting[i].killed;
}

bool limbo_bars_exec(void)
{
	for (unsigned i = 0; i < count; i++)
		if (is_lost_by_exec(i))
			return true;
	return !settle_is_done() && !settle_is_left;
}

bool limbo_is_empty(void)
{
	return count == 0 && n_strays == 0 && settle_is_done();
}

static void describe(pid_t tid, char *buf, size_t size)
{
	char comm[64], where[128];

	proc_comm(tid, comm, sizeof(comm));
	proc_where(tid, where, sizeof(where));
	(void)snprintf(
		buf, size, "process %d (%s) does not answer: it is %s", (int)tid, comm, where);
}

void limbo_say(char *buf, size_t size)
{
	if (count + n_strays > 0)
		describe(count > 0 ? inject_tid(waiting[0].target) : strays[0], buf, size);
	else
		(void)snprintf(buf, size, "a cgroup can still not be frozen or thawed");
}

int limbo_refuse(struct error *e)
{
	char text[256];

	if (limbo_is_empty())
		return 0;
	limbo_say(text, sizeof(text));
	return error_say(e, EBUSY,
		"busy: since the last attempt %s. It is let go as soon as it does: see what it waits for, or kill it",
		text);
}

void limbo_give_up(void)
{
	char text[256];

	for (unsigned i = 0; i < count; i++) {
		pid_t tid = inject_tid(waiting[i].target);
		if (!is_lost_by_exec(i))
			continue;
		describe(tid, text, sizeof(text));
		log_error(
			"%s. It is killed: in the middle of a call that was not its own, it could only run wild. Start it again if nothing does",
			text);
		waiting[i].killed = kill(tid, SIGKILL) == 0 || errno == ESRCH;
	}
	settle_is_left = true;
}

void limbo_release_strays(int tree)
{
	n_strays = 0;
	strays_tree = tree;
	(void)cgroup_walk(strays_tree, find_strays_of, NULL);
	if (n_strays == 0)
		return;
	log_warning("%u tasks that a life before has seized do not answer", n_strays);
	try_again_soon();
}
