/* SPDX-License-Identifier: MIT */
#include "upgrade/blackout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/crash.h"
#include "kernel/log.h"
#include "kernel/proc.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "upgrade/holders.h"
#include "upgrade/limbo.h"
#include "upgrade/listeners.h"
#include "upgrade/migrate.h"
#include "upgrade/porter.h"
#include "upgrade/settle.h"
#include "upgrade/strays.h"
#include "upgrade/thawer.h"
#include "upgrade/writers.h"

#define SEIZE_USEC (200 * USEC_PER_MSEC)

struct blackout {
	const struct blackout_request *request;
	struct blackout_report *report;
	struct holders holders;
	struct migration *migration;
	uint64_t start_usec, phase_usec, deadline_usec;
	bool frozen;
	enum { OTHERS_NOT, OTHERS_BEGUN, OTHERS_DONE } others; /* the other mount namespaces */
	bool swapped; /* from here on it is not taken back any more */
};

/* Of the blackout that runs; static, so that it is there after a crash. */
static struct blackout blackout;

const char *blackout_phase_name(enum blackout_phase phase)
{
	switch (phase) {
	case PHASE_FREEZE:
		return "freeze";
	case PHASE_VERIFY:
		return "verify";
	case PHASE_SEIZE:
		return "seize";
	case PHASE_PIVOT:
		return "pivot";
	case PHASE_MIGRATE:
		return "migrate";
	case PHASE_THAW:
		return "thaw";
	case N_PHASES:
		break;
	}
	return "?";
}

static void end_phase(struct blackout *b, enum blackout_phase phase)
{
	uint64_t now = clock_usec();

	b->report->usec[phase] += now - b->phase_usec;
	b->phase_usec = now;
}

static int check_deadline(const struct blackout *b, struct error *e)
{
	if (clock_usec() < b->deadline_usec)
		return 0;
	return error_say(e, ETIMEDOUT,
		"the blackout took longer than BlackoutTimeoutSec= allows (%llu ms)",
		(unsigned long long)(b->request->blackout_usec / USEC_PER_MSEC));
}

/* Freeze */

struct unfrozen {
	char *buf;
	size_t size, used;
	unsigned count;
};

/* A task that does not freeze is in an uninterruptible sleep (D), or on its way out of a long
 * system call (R). */
static int name_unfrozen(int cgroup, const char *path, void *userdata)
{
	struct unfrozen *u = userdata;
	struct pid_array list = {0};

	if (cgroup_pids(cgroup, "cgroup.threads", &list) < 0)
		list.count = 0;
	for (size_t i = 0; i < list.count; i++) {
		struct proc_stat st;
		char where[128];
		if (proc_stat_read(list.pids[i], &st) < 0 || (st.state != 'D' && st.state != 'R'))
			continue;
		proc_where(list.pids[i], where, sizeof(where));
		if (u->count++ < 3 && u->used < u->size) {
			int n = snprintf(u->buf + u->used, u->size - u->used,
				"%s%d (%s, of %s) is %s", u->used ? "; " : "", (int)list.pids[i],
				st.comm, path, where);
			u->used += n > 0 ? (size_t)n : 0;
		}
	}
	pid_array_free(&list);
	return 0;
}

static int would_not_freeze(const struct blackout *b, struct error *e)
{
	char names[360] = "";
	struct unfrozen u = {.buf = names, .size = sizeof(names)};

	(void)cgroup_walk(b->request->tree, name_unfrozen, &u);
	return error_say(e, ETIMEDOUT, "the tree did not freeze within %llu ms: %s",
		(unsigned long long)(b->request->freeze_usec / USEC_PER_MSEC),
		u.count ? names : "no task to blame was found");
}

static int freeze_tree(struct blackout *b, struct error *e)
{
#ifdef MOLT_TEST_NO_FREEZE
	(void)b;
	(void)would_not_freeze;
	(void)e;
	return 0;
#else
	int r = settle_try(b->request->flag_fd, true);

	/* Even a write that failed may have frozen some: thaw in any case. */
	b->frozen = true;
	if (r < 0)
		return error_set(e, r, "cannot freeze the tree");
	r = cgroup_wait_frozen(b->request->events_fd, true, deadline_in(b->request->freeze_usec));
	if (r == -ETIMEDOUT)
		return would_not_freeze(b, e);
	return r < 0 ? error_set(e, r, "cannot wait for the tree to freeze") : 0;
#endif
}

static int freeze(struct blackout *b, struct error *e)
{
	int r = freeze_tree(b, e);

	end_phase(b, PHASE_FREEZE);
	return r;
}

/* Verify */

/* `ids`: the mount of each old root, of PID 1's namespace and the others; `new_roots`: what comes
 * in its place. */
static int plan_for_roots(
	struct blackout *b, uint64_t *ids, int *new_roots, size_t count, struct error *e)
{
	const struct pivot *p = b->request->pivot;
	const struct namespaces *n = b->request->namespaces;
	struct listeners *l = b->request->listeners;
	size_t swapped = namespaces_swapped(n);

	ids[0] = p->old_id;
	new_roots[0] = p->new_root;
	namespaces_roots(n, ids + 1, new_roots + 1);
	(void)strays_roots(n, ids + 1 + swapped, new_roots + 1 + swapped);
	int r = b->request->force ? 0
				  : writers_refuse(b->request->tree, p->old_root, n, ids,
					    (unsigned)count, b->deadline_usec, e);
	if (r == 0)
		r = listeners_read(l, e);
	if (r == 0)
		r = holders_scan(&b->holders, b->request->tree, ids, (unsigned)count,
			l->off ? NULL : l, b->deadline_usec, e);
	if (r == 0 && !l->off)
		r = listeners_refuse(l, &b->holders, p->old_id, e);
	if (r == 0)
		r = namespaces_verify_held(n, &b->holders, e);
	if (r == 0)
		r = migration_plan(&b->migration, &b->holders, new_roots, b->request->tree,
			b->request->flag_fd, e);
	return r;
}

static int plan_migration(struct blackout *b, struct error *e)
{
	const struct namespaces *n = b->request->namespaces;
	size_t count = 1 + namespaces_swapped(n) + strays_roots(n, NULL, NULL);
	uint64_t *ids = calloc(count, sizeof(*ids));
	int *new_roots = calloc(count, sizeof(*new_roots));

	int r = ids && new_roots ? plan_for_roots(b, ids, new_roots, count, e)
				 : error_set(e, ENOMEM, "cannot plan the migration");
	free(ids);
	free(new_roots);
	return r;
}

static int verify(struct blackout *b, struct error *e)
{
	int r = pivot_verify(b->request->pivot, e);

	if (r == 0)
		r = namespaces_verify(b->request->namespaces, e);
	if (r == 0)
		r = plan_migration(b, e);
	b->report->n_processes = b->holders.n_processes;
	b->report->n_left = migration_left(b->migration);
	end_phase(b, PHASE_VERIFY);
	return r;
}

/* Seize, pivot, migrate */

static int seize(struct blackout *b, struct error *e)
{
	int r = b->migration ? migration_seize(b->migration, deadline_in(SEIZE_USEC), e) : 0;

	end_phase(b, PHASE_SEIZE);
	return r;
}

static int migrate(struct blackout *b, struct error *e)
{
	int r = b->migration ? migration_run(b->migration, b->deadline_usec, e) : 0;

	b->report->n_migrated = migration_tasks(b->migration);
	b->report->n_left = migration_left(b->migration);
	end_phase(b, PHASE_MIGRATE);
	return r;
}

static void undo_own(const struct blackout *b)
{
	struct error e;

	if (pivot_undo(b->request->pivot, &e) < 0)
		log_error("the pivot could not be taken back: %s", e.text);
}

static void undo_others(const struct blackout *b)
{
	struct error e;

	if (porter_undo(b->request->namespaces->porter, &e) < 0)
		log_error("the mount namespaces could not be taken back: %s", e.text);
}

/* PID 1's own namespace and the others at the same time: all of them or none. */
static int pivot_all(struct blackout *b, struct error *e)
{
	struct pivot *own = b->request->pivot;
	struct porter *others = b->request->namespaces->porter;
	struct error why;
	int r = pivot_isolate(own, e);

	if (r < 0)
		return r;
	r = porter_begin(others, e);
	if (r < 0) {
		undo_own(b);
		return r;
	}
	b->others = OTHERS_BEGUN;
	r = pivot_run(own, e);
	int theirs = porter_wait(others, b->deadline_usec, &why);
	b->others = OTHERS_DONE;
	if (r < 0 && theirs == 0)
		undo_others(b);
	if (r == 0 && theirs < 0) {
		undo_own(b);
		*e = why;
		r = theirs;
	}
	return r;
}

/* Nothing is taken back any more. */
static void settle(const struct blackout *b)
{
	struct error e;

	if (pivot_settle(b->request->pivot, true, &e) < 0)
		log_warning("%s", e.text);
	if (porter_settle(b->request->namespaces->porter, &e) < 0)
		log_error("%s", e.text);
}

static int pivot_and_migrate(struct blackout *b, struct error *e)
{
	int r = pivot_all(b, e);

	end_phase(b, PHASE_PIVOT);
	if (r < 0)
		return r;
	r = check_deadline(b, e);
	if (r == 0)
		r = migrate(b, e);
	if (r < 0) {
		undo_others(b);
		undo_own(b);
		return r;
	}
	b->swapped = true;
	settle(b);
	end_phase(b, PHASE_MIGRATE);
	return 0;
}

/* Thaw */

static void thaw(struct blackout *b)
{
	migration_free(b->migration);
	b->migration = NULL;
	if (b->frozen)
		settle_cgroup(b->request->flag_fd, false, "tree");
	b->frozen = false;
	end_phase(b, PHASE_THAW);
	b->report->total_usec = clock_usec() - b->start_usec;
	holders_free(&b->holders);
	/* Waiting for tasks to stop has eaten their parents' SIGCHLD, and perhaps one of ours. */
	process_reap_all();
}

static int try_once(
	const struct blackout_request *request, struct blackout_report *report, struct error *e)
{
	struct blackout *b = &blackout;
	int r;

	*b = (struct blackout){.request = request, .report = report};
	b->start_usec = b->phase_usec = clock_usec();
	b->deadline_usec = usec_add(b->start_usec, request->blackout_usec);
	if ((r = freeze(b, e)) == 0 && (r = verify(b, e)) == 0 && (r = seize(b, e)) == 0 &&
		(r = check_deadline(b, e)) == 0)
		r = pivot_and_migrate(b, e);
	thaw(b);
	if (b->swapped)
		request->swapped(request->userdata);
	return r;
}

/* After a crash. Each step stands for itself: one that crashes again is left out. */

static void abandon_migration(struct blackout *b)
{
	if (!b->swapped && b->migration)
		migration_abandon(b->migration);
}

static void abandon_others(struct blackout *b)
{
	struct error e;

	if (b->swapped || b->others == OTHERS_NOT)
		return;
	if (b->others == OTHERS_BEGUN)
		(void)porter_wait(b->request->namespaces->porter, deadline_in(SEIZE_USEC), &e);
	undo_others(b);
}

static void abandon_pivot(struct blackout *b)
{
	if (!b->swapped)
		undo_own(b);
}

static void settle_if_swapped(struct blackout *b)
{
	if (b->swapped)
		settle(b);
}

static void release_seized(struct blackout *b)
{
	struct migration *m = b->migration;

	b->migration = NULL;
	migration_free(m);
}

static void thaw_tree(struct blackout *b)
{
	settle_cgroup(b->request->flag_fd, false, "tree");
}

static void release_strays(struct blackout *b)
{
	limbo_release_strays(b->request->tree);
}

static void write_down_swap(struct blackout *b)
{
	if (b->swapped)
		b->request->swapped(b->request->userdata);
}

static void write_log(struct blackout *b)
{
	(void)b;
	log_hold(false);
}

static void __attribute__((noreturn)) recover(int signal)
{
	static void (*const STEPS[])(struct blackout * b) = {abandon_migration, abandon_others,
		abandon_pivot, settle_if_swapped, release_seized, thaw_tree, release_strays,
		write_down_swap, write_log};
	static volatile unsigned step;
	static sigjmp_buf point;

	/* Comes here again, with the next step, if one of them crashes. */
	(void)sigsetjmp(point, 1);
	while (step < ARRAY_SIZE(STEPS)) {
		(void)crash_recover_at(&point);
		STEPS[step++](&blackout);
	}
	(void)crash_recover_at(NULL);
	crash_now(signal);
}

static int run(const struct blackout_request *request, struct blackout_report *ret, struct error *e)
{
	int r = limbo_refuse(e);

	*ret = (struct blackout_report){0};
	if (r < 0)
		return r;
	log_hold(true);
	/* Our own pages come from the old image: none may have to be read while everything stands
	 * still. */
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	do {
		*ret = (struct blackout_report){0};
		thawer_start(request->tree,
			usec_add(request->freeze_usec,
				usec_add(request->blackout_usec,
					2 * MIGRATION_UNDO_USEC + USEC_PER_SEC / 2)));
		r = try_once(request, ret, e);
		thawer_stop();
		tries_count(request->tries, ret->total_usec);
		ret->n_tries = request->tries->count;
	} while (r == -EBUSY && limbo_is_empty() && tries_at_once(request->tries, clock_usec()));
	(void)munlockall();
	log_hold(false);
	return r;
}

int blackout_run(
	const struct blackout_request *request, struct blackout_report *ret, struct error *e)
{
	static sigjmp_buf point;

	if (sigsetjmp(point, 1))
		recover(crash_signal());
	/* The last resort of a crash that cannot be recovered from is to write to it. */
	crash_thaw_add(request->flag_fd);
	(void)crash_recover_at(&point);
	int r = run(request, ret, e);
	(void)crash_recover_at(NULL);
	crash_thaw_remove(request->flag_fd);
	return r;
}
