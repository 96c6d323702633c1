/* SPDX-License-Identifier: MIT */
#include "upgrade/migrate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/inject.h"
#include "kernel/log.h"
#include "kernel/proc.h"
#include "kernel/util.h"
#include "upgrade/leaves.h"
#include "upgrade/limbo.h"
#include "upgrade/relocate.h"
#include "upgrade/settle.h"

struct migration {
	int tree, flag; /* and its cgroup.freeze; both borrowed */
	struct relocation *tasks;
	size_t n_tasks, n_left;
	struct leaves leaves;
	struct inject_target **seized;
	size_t n_seized, capacity_seized;
	bool thawed; /* the tree, by us */
	volatile size_t n_begun; /* of the tasks, by migration_run() */
};

/* Planning */

static struct relocation *find_task(struct migration *m, pid_t tid)
{
	for (size_t i = 0; i < m->n_tasks; i++)
		if (m->tasks[i].tid == tid)
			return &m->tasks[i];
	return NULL;
}

static struct relocation *task_of(struct migration *m, const struct holder *h)
{
	struct relocation *t = find_task(m, h->tid);

	if (t)
		return t;
	struct relocation *grown = reallocarray(m->tasks, m->n_tasks + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	m->tasks = grown;
	grown[m->n_tasks] = (struct relocation){.pid = h->pid, .tid = h->tid, .cgroup = h->cgroup};
	return &m->tasks[m->n_tasks++];
}

static int plan_holder(struct migration *m, const struct holder *h, int new_root, struct error *e)
{
	if (!held_is_directory(h->what) || h->deleted) {
		m->n_left++;
		return 0;
	}
	struct relocation *t = task_of(m, h);
	int r = t ? relocation_add(t, h, new_root) : -ENOMEM;
	if (r == -ENOENT) {
		m->n_left++; /* the plan has said so */
		return 0;
	}
	if (r > 0)
		leaves_mark_affected(&m->leaves, h->cgroup);
	return r < 0 ? error_set(e, r, "cannot plan the move of process %d from %s", (int)h->pid,
			       h->path)
		     : 0;
}

/* Whoever was looked at and has nothing to change. */
static void drop_idle_tasks(struct migration *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n_tasks; i++)
		if (m->tasks[i].n > 0)
			m->tasks[kept++] = m->tasks[i];
	m->n_tasks = kept;
}

int migration_plan(struct migration **ret, const struct holders *h, const int *new_roots, int tree,
	int flag, struct error *e)
{
	struct migration *m = calloc(1, sizeof(*m));

	if (!m)
		return error_set(e, ENOMEM, "cannot plan the migration");
	m->tree = tree;
	m->flag = flag;
	int r = leaves_read(&m->leaves, tree, e);
	m->n_left = h->n_files;
	for (size_t i = 0; r == 0 && i < h->count; i++)
		r = plan_holder(m, &h->list[i], new_roots[h->list[i].image], e);
	drop_idle_tasks(m);
	if (r < 0) {
		migration_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

size_t migration_tasks(const struct migration *m)
{
	size_t n = 0;

	for (size_t i = 0; m && i < m->n_tasks; i++)
		if (m->tasks[i].target)
			n++;
	return n;
}

size_t migration_left(const struct migration *m)
{
	return m ? m->n_left : 0;
}

/* Seizing */

static int remember(struct migration *m, struct inject_target *target)
{
	if (m->n_seized == m->capacity_seized) {
		size_t capacity = m->capacity_seized ? m->capacity_seized * 2 : 64;
		struct inject_target **grown = reallocarray(m->seized, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		m->seized = grown;
		m->capacity_seized = capacity;
	}
	m->seized[m->n_seized++] = target;
	return 0;
}

static int seize_thread(struct migration *m, pid_t tid, struct error *e)
{
	struct inject_target *target;
	struct relocation *task = find_task(m, tid);
	int r = inject_seize(&target, tid, e);

	if (r == -ESRCH)
		return 0; /* a zombie runs nothing and holds nothing */
	if (r == -EBUSY && !task)
		return 0; /* a vfork parent stands still until its child, which is here too, goes on
			   */
	if (r < 0)
		return r;
	r = remember(m, target);
	if (r < 0) {
		limbo_release(target);
		return error_set(e, r, "cannot hold task %d", (int)tid);
	}
	if (task)
		task->target = target;
	return 0;
}

static int seize_process(struct migration *m, pid_t pid, struct error *e)
{
	struct pid_array threads = {0};
	int r = proc_threads(pid, &threads);

	if (r == -ENOENT || r == -ESRCH)
		r = 0;
	else if (r < 0)
		(void)error_set(e, r, "cannot list the threads of process %d", (int)pid);
	for (size_t i = 0; r == 0 && i < threads.count; i++)
		r = seize_thread(m, threads.pids[i], e);
	pid_array_free(&threads);
	return r;
}

static int open_leaf(const struct migration *m, const struct leaf *l)
{
	int fd = openat(
		m->tree, *l->path ? l->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int seize_leaf(struct migration *m, const struct leaf *l, struct error *e)
{
	struct pid_array list = {0};
	CLEANUP_FD int fd = open_leaf(m, l);
	int r = fd < 0 ? fd : cgroup_pids(fd, "cgroup.procs", &list);

	if (r < 0 && r != -ENOENT && r != -ENODEV)
		(void)error_set(e, r, "cannot list the processes of %s", l->path);
	else
		r = 0;
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = seize_process(m, list.pids[i], e);
	pid_array_free(&list);
	return r;
}

/* Nothing can be run in it, so what its process holds stays; it stands still as the others do. */
static void leave_task(struct migration *m, pid_t pid, const struct error *why)
{
	log_warning("what process %d holds of the old image stays: %s", (int)pid, why->text);
	for (size_t i = 0; i < m->n_tasks; i++) {
		struct relocation *t = &m->tasks[i];
		if (t->pid != pid || !t->target)
			continue;
		t->target = NULL;
		m->n_left += t->n;
	}
}

static int wait_stopped(
	struct migration *m, struct inject_target *target, uint64_t deadline_usec, struct error *e)
{
	struct relocation *task = find_task(m, inject_tid(target));
	int r = inject_wait_stopped(target, deadline_usec, e);

	if (r == -ESRCH && task)
		task->target = NULL; /* killed: nothing is to be moved any more */
	/* A bystander need not be able to run our syscalls, only to stand still; in vfork(2) it
	 * does until its child goes on. */
	bool unable = r == -ENOTSUP || r == -ENOEXEC;
	if (unable && task && task->target)
		leave_task(m, task->pid, e);
	return r == -ESRCH || unable || (r == -EBUSY && (!task || !task->target)) ? 0 : r;
}

/*
 * Somebody in it is traced by a stranger and cannot be made to stand still, so this cgroup must not
 * thaw while we inject: what is held in it, and below it, stays. Or any user could keep the whole
 * machine from an upgrade, and from a rollback.
 */
static void leave_cgroup(struct migration *m, const struct leaf *l, const struct error *why)
{
	log_warning("what the processes of %s hold of the old image stays: %s",
		*l->path ? l->path : "the tree", why->text);
	leaves_spare(&m->leaves, l);
	for (size_t i = 0; i < m->n_tasks; i++) {
		struct relocation *t = &m->tasks[i];
		if (!leaf_contains(l, t->cgroup))
			continue;
		t->target = NULL;
		m->n_left += t->n;
	}
}

static bool has_targets(const struct migration *m)
{
	for (size_t i = 0; i < m->n_tasks; i++)
		if (m->tasks[i].target)
			return true;
	return false;
}

int migration_seize(struct migration *m, uint64_t deadline_usec, struct error *e)
{
	if (m->n_tasks == 0)
		return 0;
	for (size_t i = 0; i < m->leaves.count; i++) {
		const struct leaf *l = &m->leaves.list[i];
		int r = l->affected ? seize_leaf(m, l, e) : 0;
		if (r == -EPERM)
			leave_cgroup(m, l, e);
		else if (r < 0)
			return r;
	}
	/* All are asked before the first is waited for. */
	for (size_t i = 0; i < m->n_seized; i++) {
		int r = wait_stopped(m, m->seized[i], deadline_usec, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Running */

/* The threads of one process share memory and mostly more: what keeps one in its jail keeps all of
 * them. */
static int leave_process(struct migration *m, pid_t pid, uint64_t deadline_usec, struct error *e)
{
	for (size_t i = 0; i < m->n_tasks; i++) {
		struct relocation *t = &m->tasks[i];
		if (t->pid != pid || !t->target)
			continue;
		int r = relocation_take_back(t, deadline_usec, e);
		if (r < 0)
			return r;
		t->target = NULL;
	}
	return 0;
}

/*
 * Its own limits keep it from being moved, or its memory is not as a program's is: as who is traced
 * by a stranger it stays, or any user could keep the whole machine from an upgrade, and from a
 * rollback.
 */
static int leave_unable(
	struct migration *m, struct relocation *t, uint64_t deadline_usec, struct error *e)
{
	log_warning("what process %d holds of the old image stays: %s", (int)t->pid, e->text);
	for (size_t i = 0; i < m->n_tasks; i++)
		if (m->tasks[i].pid == t->pid && m->tasks[i].target)
			m->n_left += m->tasks[i].n;
	return leave_process(m, t->pid, deadline_usec, e);
}

static int apply(struct migration *m, struct relocation *t, uint64_t deadline_usec, struct error *e)
{
	if (!t->target)
		return 0; /* it has ended since, or is left where it is */
	int r = relocation_apply(t, deadline_usec, &m->n_left, e);
	if (r == -EACCES)
		r = leave_process(m, t->pid, deadline_usec, e);
	else if (r < 0 && r != -ESRCH && r != -ETIMEDOUT && inject_is_unable(t->target))
		r = leave_unable(m, t, deadline_usec, e);
	if (r == -ESRCH)
		return 0;
	return r < 0 ? error_prefix(e, "cannot migrate process %d", (int)t->pid) : 0;
}

static void take_back(struct migration *m, uint64_t deadline_usec)
{
	for (size_t i = 0; i < m->n_tasks; i++) {
		struct relocation *t = &m->tasks[i];
		struct error e;
		if (t->target && relocation_take_back(t, deadline_usec, &e) < 0)
			log_error("process %d could not be put back: %s", (int)t->pid, e.text);
	}
}

/*
 * Back to where only the tree's own flag holds everybody. Where that cannot be had the others stay
 * held by theirs: nobody must run before the root is the old one again.
 */
static void freeze_again(struct migration *m)
{
	int r = settle_try(m->flag, true);

	if (r < 0) {
		log_error("cannot freeze the tree again: %s", strerror(-r));
		return;
	}
	m->thawed = false;
	leaves_unlift(&m->leaves);
	leaves_release(&m->leaves);
}

static void recover_task(struct relocation *t)
{
	uint64_t deadline = deadline_in(MIGRATION_UNDO_USEC);
	struct error e;

	if (!t->target)
		return;
	relocation_assume_done(t);
	if (inject_recover(t->target, deadline, &e) < 0)
		log_error("%s", e.text);
	else
		inject_clean_up(t->target, deadline);
}

/* One that was too slow is in the middle of a call of ours still, as after a crash. */
static void undo(struct migration *m, int why)
{
	if (why == -ETIMEDOUT)
		recover_task(&m->tasks[m->n_begun - 1]);
	take_back(m, deadline_in(MIGRATION_UNDO_USEC));
	freeze_again(m);
}

/* Each may answer in time, and there may be too many of them. Not -ETIMEDOUT: nobody is in the
 * middle of a call. */
static int check_deadline(
	const struct migration *m, size_t done, uint64_t deadline_usec, struct error *e)
{
	if (clock_usec() < deadline_usec)
		return 0;
	return error_say(e, ETIME,
		"cannot migrate process %d in the time that BlackoutTimeoutSec= allows, nor those after it: %zu of %zu were",
		(int)m->tasks[done].pid, done, m->n_tasks);
}

int migration_run(struct migration *m, uint64_t deadline_usec, struct error *e)
{
	if (!has_targets(m))
		return 0;
	int r = leaves_hold(&m->leaves, e);

	if (r == 0) {
		m->thawed = true;
		r = settle_try(m->flag, false);
		if (r < 0)
			(void)error_set(e, r, "cannot thaw the tree for the migration");
		else
			leaves_lift(&m->leaves);
	}
	for (size_t i = 0; r == 0 && i < m->n_tasks; i++) {
		r = check_deadline(m, i, deadline_usec, e);
		if (r < 0)
			break;
		m->n_begun = i + 1;
		r = apply(m, &m->tasks[i], deadline_usec, e);
	}
	if (r < 0)
		undo(m, m->n_begun > 0 ? r : 0);
	return r;
}

void migration_abandon(struct migration *m)
{
	if (!m->thawed)
		return;
	/* Whether the change that it crashed in was made is not known; to take back one that was
	 * not changes nothing. */
	if (m->n_begun > 0)
		recover_task(&m->tasks[m->n_begun - 1]);
	take_back(m, deadline_in(MIGRATION_UNDO_USEC));
	freeze_again(m);
}

/* The end */

static void release_all(struct migration *m)
{
	for (size_t i = 0; i < m->n_seized; i++)
		limbo_release(m->seized[i]);
	m->n_seized = 0;
}

void migration_free(struct migration *m)
{
	if (!m)
		return;
	leaves_unlift(&m->leaves);
	release_all(m);
	leaves_release(&m->leaves);
	for (size_t i = 0; i < m->n_tasks; i++)
		relocation_done(&m->tasks[i]);
	leaves_free(&m->leaves);
	free(m->tasks);
	free(m->seized);
	free(m);
}
