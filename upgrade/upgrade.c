/* SPDX-License-Identifier: MIT */
#include "upgrade/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/mounts.h"
#include "kernel/util.h"
#include "services/service.h"
#include "upgrade/blackout.h"
#include "upgrade/generations.h"
#include "upgrade/judge.h"
#include "upgrade/limbo.h"
#include "upgrade/pivot.h"
#include "upgrade/report.h"
#include "upgrade/rollout.h"
#include "upgrade/vault.h"

#define ROLLBACK_TRIES 10
#define ROLLBACK_RETRY_USEC (500 * USEC_PER_MSEC)

static const uint64_t BUSY_RETRY_USEC[] = {
	1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 300000, 400000, 500000};

/* One root and what it is called. */
struct side {
	unsigned generation;
	uint64_t mount_id;
	int root; /* O_PATH; -1: it is "/" */
};

static struct {
	int tree, events;
	struct upgrade_hooks hooks;
	const struct system_conf *conf;

	enum upgrade_phase phase;
	enum upgrade_mode mode;
	bool force;
	bool exec_wanted;
	unsigned last_generation; /* the highest number ever given */
	struct side current; /* the root that is "/" */
	struct side
		other; /* the one in the vault, while the transaction is open; generation 0: none */
	char why[512]; /* of the rollback */
	unsigned rollback_tries;
	struct loop_timer commit_timer, retry_timer;

	/* PLANNING */
	char *path;
	int image; /* the detached mount of the new root; -1: none yet */
	char *leave; /* a mount that stays on the old one */
	struct loop_timer again_timer;
	unsigned busy_tries;
} u = {.tree = -1, .events = -1, .image = -1, .current.root = -1, .other.root = -1};

static void begin_rollback(void);

enum upgrade_phase upgrade_phase(void)
{
	return u.phase;
}

unsigned upgrade_generation(void)
{
	return u.current.generation;
}

unsigned upgrade_generation_of(uint64_t mount_id)
{
	if (mount_id == u.current.mount_id)
		return u.current.generation;
	if (u.other.generation && mount_id == u.other.mount_id)
		return u.other.generation;
	return generations_find(mount_id);
}

const char *upgrade_state_name(void)
{
	switch (u.phase) {
	case UPGRADE_IDLE:
	case UPGRADE_PLANNING:
		return "running";
	case UPGRADE_UNCOMMITTED:
		return "uncommitted";
	case UPGRADE_EXECING:
	case UPGRADE_SERVICES:
	case UPGRADE_UNDOING_EXEC:
	case UPGRADE_UNDOING:
		return "upgrading";
	}
	return "?";
}

bool upgrade_exec_wanted(void)
{
	return u.exec_wanted;
}

int upgrade_fallback_root(void)
{
	return u.phase == UPGRADE_EXECING ? u.other.root : -1;
}

/* The end of a transaction */

static void finish(const char *result, const char *text)
{
	u.phase = UPGRADE_IDLE;
	u.exec_wanted = false;
	timer_cancel(&u.commit_timer);
	timer_cancel(&u.retry_timer);
	log_notice("upgrade: %s", text);
	u.hooks.finished(result, text);
}

static void __attribute__((format(printf, 1, 2))) refuse(const char *format, ...)
{
	char why[512], text[600];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	(void)snprintf(text, sizeof(text), "refused: %s", why);
	u.image = fd_close(u.image);
	finish(RESULT_REFUSED, text);
}

/* Unmounts the root in the vault and goes on watching who holds it. */
static void let_go_of_other(void)
{
	struct error e;

	if (!u.other.generation)
		return;
	if (vault_release(u.other.generation, &e) < 0)
		log_error("%s", e.text);
	generations_add(u.other.generation, u.other.mount_id, u.other.root);
	u.other = (struct side){.root = -1};
}

static void commit(void)
{
	let_go_of_other();
	report_end_phase("commit", false);
	finish(RESULT_OK, "committed");
}

static void rolled_back(void)
{
	char text[600];

	let_go_of_other();
	(void)snprintf(text, sizeof(text), "rolled back: %s", u.why);
	finish(RESULT_ROLLED_BACK, text);
}

/* Services: forwards and backwards */

static void service_rolled(const struct service *s)
{
	report_progress(
		"%s: %s", s->unit->name, s->roll.state == ROLL_FAILED ? s->roll.why : "done");
}

static void commit_timer_expired(struct loop_timer *t)
{
	(void)t;
	(void)snprintf(u.why, sizeof(u.why),
		"nobody committed it within CommitTimeoutSec= (%llu s)",
		(unsigned long long)(u.conf->commit_timeout_usec / USEC_PER_SEC));
	begin_rollback();
}

static void services_done(const struct service *failed)
{
	report_end_phase("services", false);
	if (failed) {
		(void)snprintf(
			u.why, sizeof(u.why), "%s: %s", failed->unit->name, failed->roll.why);
		begin_rollback();
	} else if (u.conf->auto_commit) {
		commit();
	} else {
		u.phase = UPGRADE_UNCOMMITTED;
		timer_set(&u.commit_timer, deadline_in(u.conf->commit_timeout_usec));
		log_notice("generation %u waits for `initctl commit` or `initctl rollback`",
			u.current.generation);
		u.hooks.finished(RESULT_OK,
			"not committed yet: `initctl commit` keeps it, `initctl rollback` undoes it");
	}
}

static void services_undone(const struct service *failed)
{
	report_end_phase("services", false);
	if (failed)
		log_error("%s did not get back onto the old image: %s", failed->unit->name,
			failed->roll.why);
	rolled_back();
}

static const struct rollout_hooks FORWARDS = {service_rolled, services_done};
static const struct rollout_hooks BACKWARDS = {service_rolled, services_undone};

static void roll_forwards(void)
{
	u.phase = UPGRADE_SERVICES;
	rollout_begin(u.current.mount_id, true, &FORWARDS);
}

static void roll_backwards(void)
{
	u.phase = UPGRADE_UNDOING;
	rollout_begin(u.current.mount_id, false, &BACKWARDS);
}

/* The swap, both ways */

/*
 * Exchanges u.current with the side `to`, whose root is detached (slot -1) or in its slot of the
 * vault. On success u.other is what was current.
 */
static int swap_to(struct side to, int to_slot, const char *leave, bool force, struct error *e)
{
	struct pivot p;
	struct blackout_report report;
	CLEANUP_FD int slot = vault_slot(u.current.generation, e);

	if (slot < 0)
		return slot;
	int r = pivot_prepare(&p, to.root, slot, to_slot, leave, e);
	if (r == 0) {
		struct blackout_request request = {.tree = u.tree,
			.events_fd = u.events,
			.pivot = &p,
			.freeze_usec = u.conf->freeze_timeout_usec,
			.blackout_usec = u.conf->blackout_timeout_usec,
			.force = force};
		report_end_phase("prepare", false);
		r = blackout_run(&request, &report, e);
		report_blackout(&report);
	}
	if (r == 0) {
		u.other = u.current;
		u.other.root = fd_steal(&p.old_root);
		u.current = to;
		(void)fd_close(to.root);
		u.current.root = -1;
	}
	pivot_done(&p);
	return r;
}

static void begin_exec(enum upgrade_phase phase)
{
	u.phase = phase;
	u.exec_wanted = true;
}

static void rollback_failed(const struct error *e)
{
	char text[600];

	if (++u.rollback_tries < ROLLBACK_TRIES) {
		log_warning("cannot roll back yet: %s", e->text);
		timer_set(&u.retry_timer, deadline_in(ROLLBACK_RETRY_USEC));
		return;
	}
	/* The new image stays; whoever asked must know that both ways are barred. */
	(void)snprintf(text, sizeof(text),
		"failed: cannot roll back: %s; to be rolled back because: %s", e->text, u.why);
	u.phase = UPGRADE_UNCOMMITTED;
	log_error("upgrade: %s", text);
	u.hooks.finished(RESULT_FAILED, text);
}

static void try_rollback(struct loop_timer *t)
{
	struct error e;
	struct side to = u.other;
	CLEANUP_FD int to_slot = vault_slot(u.other.generation, &e);

	(void)t;
	int r = to_slot < 0 ? to_slot : swap_to(to, to_slot, NULL, true, &e);
	if (r < 0)
		rollback_failed(&e);
	else
		begin_exec(UPGRADE_UNDOING_EXEC);
}

static void begin_rollback(void)
{
	log_warning("rolling back to generation %u: %s", u.other.generation, u.why);
	report_progress("rolling back: %s", u.why);
	timer_cancel(&u.commit_timer);
	rollout_abort();
	u.rollback_tries = 0;
	try_rollback(NULL);
}

void upgrade_exec_failed(const char *why)
{
	struct error e;

	u.exec_wanted = false;
	log_error("cannot execute the init of generation %u: %s", u.current.generation, why);
	if (u.phase == UPGRADE_UNDOING_EXEC) {
		/* We are the new image's init on the old root: it can finish the job as well. */
		roll_backwards();
		return;
	}
	(void)snprintf(u.why, sizeof(u.why), "cannot execute the new init: %s", why);
	struct side to = u.other;
	CLEANUP_FD int to_slot = vault_slot(u.other.generation, &e);
	if (to_slot < 0 || swap_to(to, to_slot, NULL, true, &e) < 0) {
		u.phase = UPGRADE_UNCOMMITTED;
		rollback_failed(&e);
		return;
	}
	rolled_back();
}

void upgrade_exec_returned(void)
{
	if (u.phase != UPGRADE_SERVICES && u.phase != UPGRADE_EXECING)
		return;
	(void)snprintf(u.why, sizeof(u.why), "the new init could not take over the state");
	u.phase = UPGRADE_SERVICES;
	begin_rollback();
}

/* Planning */

/* Somebody was in the middle of vfork(2) at each try: its child goes on only while nothing is
 * frozen. */
static bool later(int r)
{
	if (r != -EBUSY || u.busy_tries == ARRAY_SIZE(BUSY_RETRY_USEC))
		return false;
	timer_set(&u.again_timer, deadline_in(BUSY_RETRY_USEC[u.busy_tries++]));
	return true;
}

static void upgrade_now(void)
{
	struct error e;
	struct side to = {.generation = u.last_generation + 1, .root = u.image};
	int r = mount_id_of_fd(to.root, &to.mount_id);

	if (r < 0)
		(void)error_set(&e, r, "cannot identify the new root");
	else
		r = vault_open(&e);
	if (r == 0)
		r = swap_to(to, -1, u.leave, u.force, &e);
	if (r == 0) {
		u.image = -1;
		u.last_generation = to.generation;
		begin_exec(UPGRADE_EXECING);
	} else if (!later(r)) {
		struct error ignored;
		/* A pivot that was taken back has left the new root in the slot of the old. */
		(void)vault_release(u.current.generation, &ignored);
		refuse("%s", e.text);
	}
}

static void again_timer_expired(struct loop_timer *t)
{
	if (limbo_is_empty())
		upgrade_now();
	else
		timer_set(
			t, deadline_in(BUSY_RETRY_USEC[0])); /* it is let go when its vfork(2) is
								over, and cannot be seized before */
}

static void judged(const struct judgement *j)
{
	char text[600];

	report_end_phase("plan", false);
	u.image = j->image;
	u.leave = j->leave;
	if (j->image < 0) {
		refuse("%s", j->unfit);
	} else if (j->n_blockers > 0 && !u.force) {
		refuse("%s%s", j->blocker,
			j->n_blockers > 1 ? " (and more: see `initctl plan`)" : "");
	} else if (u.mode == MODE_UPGRADE) {
		if (j->n_blockers > 0)
			log_warning("upgrade forced in spite of: %s", j->blocker);
		upgrade_now();
	} else {
		u.image = fd_close(u.image);
		(void)snprintf(text, sizeof(text), "nothing forbids the upgrade to %s", u.path);
		finish(RESULT_OK, text);
	}
}

void upgrade_cancel(void)
{
	timer_cancel(&u.commit_timer);
	timer_cancel(&u.retry_timer);
	if (u.phase != UPGRADE_PLANNING)
		return;
	timer_cancel(&u.again_timer);
	judge_cancel();
	refuse("the system is going down");
}

void upgrade_let_go(void)
{
	if (u.phase == UPGRADE_UNCOMMITTED)
		let_go_of_other();
	generations_let_go();
}

int upgrade_begin(const char *path, enum upgrade_mode mode, bool force, struct error *e)
{
	char *copy;

	if (u.phase != UPGRADE_IDLE)
		return error_say(e, EBUSY,
			u.phase == UPGRADE_UNCOMMITTED
				? "generation %u is not committed yet: `initctl commit` or `initctl rollback` first"
				: "busy: an upgrade of generation %u is under way",
			u.current.generation);
	if (!limbo_is_empty())
		return error_say(e, EBUSY,
			"busy: a process still does not answer since the last attempt (see `initctl log init`)");
	CLEANUP_FD int state_fd = u.hooks.snapshot();
	if (state_fd < 0)
		return error_set(e, state_fd, "cannot copy the state for the new init to look at");
	copy = strdup(path);
	if (!copy)
		return error_set(e, ENOMEM, "cannot begin the upgrade");
	free(u.path);
	free(u.leave);
	u.path = copy;
	u.leave = NULL;
	u.mode = mode;
	u.force = force;
	u.busy_tries = 0;
	report_begin();
	struct image_request request = {.path = u.path,
		.generation = u.last_generation + 1,
		.state_fd = state_fd,
		.check_usec = u.conf->check_timeout_usec,
		.tree = u.tree};
	int r = judge_begin(&request, u.hooks.emit, judged, e);
	if (r == 0)
		u.phase = UPGRADE_PLANNING;
	return r;
}

int upgrade_commit(struct error *e)
{
	if (u.phase != UPGRADE_UNCOMMITTED)
		return error_say(e, EINVAL, "nothing to commit: no upgrade waits for it");
	report_begin();
	commit();
	return 0;
}

int upgrade_rollback(const char *why, struct error *e)
{
	if (u.phase != UPGRADE_UNCOMMITTED)
		return error_say(e, EINVAL,
			"nothing to roll back to: generation %u is committed and the one before it released",
			u.current.generation);
	(void)snprintf(u.why, sizeof(u.why), "%s", why);
	u.phase = UPGRADE_SERVICES;
	report_begin();
	begin_rollback();
	return 0;
}

int upgrade_report_holders(void (*emit)(const char *text, size_t length), struct error *e)
{
	return generations_report(u.other.generation, u.other.mount_id, emit, e);
}

int upgrade_init(int tree, const struct upgrade_hooks *hooks, struct error *e)
{
	u.tree = tree;
	u.hooks = *hooks;
	u.again_timer.expired = again_timer_expired;
	u.commit_timer.expired = commit_timer_expired;
	u.retry_timer.expired = try_rollback;
	u.current.generation = u.last_generation = 1;
	report_init(hooks->emit);
	generations_init(tree);
	u.events = cgroup_open_events(tree);
	if (u.events < 0)
		return error_set(e, u.events, "cannot watch the tree");
	int r = mount_id_at(AT_FDCWD, "/", &u.current.mount_id);
	return r < 0 ? error_set(e, r, "cannot identify the root mount (Linux 5.12 is needed)") : 0;
}

void upgrade_configure(const struct system_conf *conf)
{
	u.conf = conf;
}

/* State */

static void save_side(struct record_writer *w, const char *key, const struct side *s)
{
	if (s->generation)
		record_format(w, key, "%u %llu %d", s->generation, (unsigned long long)s->mount_id,
			s->root);
}

static int load_side(const char *text, struct side *s, struct error *e)
{
	unsigned long long id;

	if (!text)
		return 0;
	if (sscanf(text, "%u %llu %d", &s->generation, &id, &s->root) != 3)
		return error_say(e, EBADMSG, "the state's generation \"%s\" makes no sense", text);
	s->mount_id = id;
	return 0;
}

void upgrade_save(struct record_writer *w)
{
	record_begin(w, "upgrade", "");
	/* A plan that is being made is not carried over: its client asks again. */
	record_int(w, "phase", u.phase == UPGRADE_PLANNING ? UPGRADE_IDLE : u.phase);
	record_int(w, "last_generation", u.last_generation);
	save_side(w, "current", &u.current);
	save_side(w, "other", &u.other);
	record_int(w, "vault", vault_fd());
	record_text(w, "path", u.path);
	record_text(w, "why", u.why[0] ? u.why : NULL);
	record_int(w, "commit_usec", (int64_t)u.commit_timer.deadline_usec);
	/* A rollback that could not be done yet is still to be done. */
	record_int(w, "retry_usec", (int64_t)u.retry_timer.deadline_usec);
	record_int(w, "rollback_tries", u.rollback_tries);
	report_save(w);
	generations_save(w);
	record_end(w);
}

int upgrade_load(const struct record *r, struct error *e)
{
	const char *path = record_get(r, "path"), *why = record_get(r, "why");
	int64_t commit_usec = record_get_int(r, "commit_usec", 0);
	int result;

	u.phase = (enum upgrade_phase)record_get_int(r, "phase", UPGRADE_IDLE);
	u.last_generation = (unsigned)record_get_int(r, "last_generation", 1);
	if ((result = load_side(record_get(r, "current"), &u.current, e)) < 0 ||
		(result = load_side(record_get(r, "other"), &u.other, e)) < 0 ||
		(result = generations_load(r, e)) < 0)
		return result;
	vault_adopt((int)record_get_int(r, "vault", -1));
	report_load(r);
	free(u.path);
	u.path = path ? strdup(path) : NULL;
	(void)snprintf(u.why, sizeof(u.why), "%s", why ? why : "");
	if (commit_usec > 0)
		timer_set(&u.commit_timer, (uint64_t)commit_usec);
	u.rollback_tries = (unsigned)record_get_int(r, "rollback_tries", 0);
	if (record_get_int(r, "retry_usec", 0) > 0)
		timer_set(&u.retry_timer, (uint64_t)record_get_int(r, "retry_usec", 0));
	return 0;
}

void upgrade_each_fd(int (*visit)(int fd))
{
	if (u.other.root >= 0)
		(void)visit(u.other.root);
	if (vault_fd() >= 0)
		(void)visit(vault_fd());
	generations_each_fd(visit);
}

void upgrade_resume(void)
{
	generations_resume();
	if (timer_armed(&u.retry_timer))
		return; /* a rollback is tried again */
	switch (u.phase) {
	case UPGRADE_EXECING:
		report_end_phase("exec", false);
		roll_forwards();
		return;
	case UPGRADE_UNDOING_EXEC:
		report_end_phase("exec", false);
		roll_backwards();
		return;
	case UPGRADE_SERVICES:
		rollout_resume(u.current.mount_id, true, &FORWARDS);
		return;
	case UPGRADE_UNDOING:
		rollout_resume(u.current.mount_id, false, &BACKWARDS);
		return;
	case UPGRADE_IDLE:
	case UPGRADE_PLANNING:
	case UPGRADE_UNCOMMITTED:
		return;
	}
}
