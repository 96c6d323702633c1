/* SPDX-License-Identifier: MIT */
#include "init/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/protocol.h"
#include "conf/unit.h"
#include "init/blame.h"
#include "init/good.h"
#include "init/late_mounts.h"
#include "init/schedule.h"
#include "init/shutdown.h"
#include "init/single.h"
#include "init/status.h"
#include "init/system.h"
#include "init/watchdog.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/output.h"
#include "services/set.h"
#include "upgrade/limbo.h"
#include "upgrade/upgrade.h"

static void fail_with(struct client *c, const struct error *e)
{
	const char *result = e->code == -ENOENT                           ? RESULT_NOT_FOUND
			     : e->code == -EBUSY || e->code == -ESHUTDOWN ? RESULT_BUSY
									  : RESULT_FAILED;

	control_finish(c, result, e->text);
}

static const char *field(const struct record *r, const char *key)
{
	const char *value = record_get(r, key);

	return value && *value ? value : NULL;
}

static void run_status(struct client *c, const struct record *r)
{
	const char *unit = field(r, "unit");
	struct service *s = unit ? set_find(unit) : NULL;

	if (unit && !s) {
		char text[400];
		(void)snprintf(
			text, sizeof(text), "no service %s is loaded (`initctl` lists them)", unit);
		control_finish(c, RESULT_NOT_FOUND, text);
		return;
	}
	status_send_system(c);
	status_send_choice(c);
	status_send_schedule(c);
	if (s)
		status_send_unit(c, s);
	for (s = unit ? NULL : set_first(); s; s = s->next)
		status_send_unit(c, s);
	control_finish(c, RESULT_OK, NULL);
}

static void run_version(struct client *c, const struct record *r)
{
	(void)r;
	status_send_system(c);
	control_finish(c, RESULT_OK, NULL);
}

static void run_blame(struct client *c, const struct record *r)
{
	(void)r;
	blame_send(c);
	control_finish(c, RESULT_OK, NULL);
}

static void run_log(struct client *c, const struct record *r)
{
	const char *unit = field(r, "unit");
	struct service *s = unit ? set_find(unit) : NULL;
	struct record_writer w = {0};
	char path[600];

	if (unit && strcmp(unit, "init") == 0) {
		(void)snprintf(path, sizeof(path), "%s", LOG_PATH);
	} else if (s) {
		output_find(path, sizeof(path), s->unit->name);
	} else {
		(void)snprintf(path, sizeof(path),
			"no service %s is loaded (`initctl log init` is PID 1's own log)",
			unit ? unit : "");
		control_finish(c, RESULT_NOT_FOUND, path);
		return;
	}
	record_begin(&w, "log", unit);
	record_text(&w, "path", path);
	record_end(&w);
	control_send_record(c, &w);
	control_finish(c, RESULT_OK, NULL);
}

typedef int (*service_verb)(const char *name, struct error *e);

static void run_service_verb(struct client *c, const struct record *r, service_verb verb)
{
	const char *unit = field(r, "unit");
	struct error e;

	if (!unit) {
		control_finish(c, RESULT_USAGE, "which service?");
		return;
	}
	if (verb(unit, &e) < 0) {
		fail_with(c, &e);
		return;
	}
	control_wait(c, r->id, unit);
	command_check_wait(c, r->id, unit);
}

static void run_start(struct client *c, const struct record *r)
{
	late_mounts_retry();
	run_service_verb(c, r, set_start);
}

static void run_stop(struct client *c, const struct record *r)
{
	run_service_verb(c, r, set_stop);
}

static void run_restart(struct client *c, const struct record *r)
{
	late_mounts_retry();
	run_service_verb(c, r, set_restart);
}

static void run_reload(struct client *c, const struct record *r)
{
	run_service_verb(c, r, set_reload);
}

void command_check_wait(struct client *c, const char *verb, const char *unit)
{
	struct service *s = set_find(unit);
	bool stopping = strcmp(verb, "stop") == 0;
	char text[400];

	/* control_resume() answers those in the next life; holders_done() */
	if (strcmp(verb, "reexec") == 0 || strcmp(verb, "holders") == 0 ||
		strcmp(verb, "shutdown") == 0)
		return;
	if (!s) {
		control_finish(c, RESULT_NOT_FOUND, "the service is gone");
		return;
	}
	if (stopping && service_is_active(s) && !s->stop_queued) {
		(void)snprintf(text, sizeof(text),
			"%s: not stopped: it was started again meanwhile", s->unit->name);
		control_finish(c, RESULT_FAILED, text);
		return;
	}
	if (strcmp(verb, "reload") == 0 && s->state == STATE_RUNNING && s->why[0]) {
		(void)snprintf(text, sizeof(text), "%s: %s", s->unit->name, s->why);
		control_finish(c, RESULT_FAILED, text);
		return;
	}
	if (!service_is_settled(s) || s->stop_queued || (stopping && !service_is_down(s)))
		return;
	bool failed = s->state == STATE_FAILED || s->state == STATE_BACKOFF;
	if (!stopping && s->state == STATE_INACTIVE && s->result == RESULT_CONDITION) {
		/* Nothing that went wrong, but not what was asked for either. */
		(void)snprintf(text, sizeof(text), "%s: %s", s->unit->name, s->why);
		control_finish(c, RESULT_OK, text);
		return;
	}
	if (stopping || !failed) {
		control_finish(c, RESULT_OK, NULL);
		return;
	}
	(void)snprintf(text, sizeof(text), "%s: %s (`initctl log %s` shows what it said)",
		s->unit->name, s->why, unit);
	control_finish(c, RESULT_FAILED, text);
}

/* Upgrades */

void command_upgrade_emit(const char *text, size_t length)
{
	for (struct client *c = NULL; (c = control_next_upgrade_client(c));)
		control_send(c, text, length);
}

void command_upgrade_finished(const char *result, const char *text)
{
	for (struct client *c = NULL; (c = control_next_upgrade_client(c));)
		control_finish(c, result, text);
}

/* A boot or a shutdown is not handed over to another program: only the same one takes it up, after
 * a crash. */
static void finish_busy(struct client *c)
{
	control_finish(c, RESULT_BUSY,
		sys.state == SYSTEM_STOPPING ? "busy: the system is going down"
					     : "busy: the system is booting");
}

static int read_within(const char *text, struct upgrade_request *q, struct error *e)
{
	if (q->commit == COMMIT_AT_ONCE)
		return error_say(e, EINVAL,
			"--commit-within=%s: what is committed at once (--auto-commit) is not waited for",
			text);
	q->commit = COMMIT_BY_HAND;
	if (unit_parse_span(text, &q->commit_within_usec) < 0 || q->commit_within_usec == 0)
		return error_say(e, EINVAL,
			"--commit-within=%s: that is no time span. 90 (seconds), 5min and infinity are",
			text);
	return 0;
}

static int read_choice(const struct record *r, struct upgrade_request *q, struct error *e)
{
	const char *commit = record_get(r, "commit"), *within = record_get(r, "commit_within");

	if (commit && strcmp(commit, "auto") != 0 && strcmp(commit, "hand") != 0)
		return error_say(e, EINVAL, "commit=%s: it is auto or hand", commit);
	if (commit)
		q->commit = strcmp(commit, "auto") == 0 ? COMMIT_AT_ONCE : COMMIT_BY_HAND;
	return within ? read_within(within, q, e) : 0;
}

/* It could not even begin: that is a refusal as well, in its words. */
static void refuse_upgrade(struct client *c, enum upgrade_mode mode, const struct error *e)
{
	char text[sizeof(e->text) + 16];

	if (mode != MODE_UPGRADE || e->code == -EBUSY || e->code == -ESHUTDOWN) {
		fail_with(c, e);
		return;
	}
	(void)snprintf(text, sizeof(text), "refused: %s", e->text);
	control_finish(c, RESULT_REFUSED, text);
}

static void begin_upgrade(struct client *c, const struct record *r, enum upgrade_mode mode)
{
	struct upgrade_request q = {.path = field(r, "path"),
		.options = {.mount_options = field(r, "mount_options"),
			.read_only = record_get_bool(r, "read_only", false),
			.verity_hash = field(r, "verity_hash"),
			.root_hash = field(r, "root_hash"),
			.root_hash_signature = field(r, "root_hash_signature"),
			.seen = field(r, "seen")},
		.mode = mode,
		.force = record_get_bool(r, "force", false)};
	struct error e;

	if (!q.path) {
		control_finish(c, RESULT_USAGE, "which image?");
		return;
	}
	if (read_choice(r, &q, &e) < 0) {
		control_finish(c, RESULT_USAGE, e.text);
		return;
	}
	if (sys.state != SYSTEM_RUNNING || good_is_busy()) {
		finish_busy(c);
		return;
	}
	if (upgrade_begin(&q, &e) < 0) {
		refuse_upgrade(c, mode, &e);
		return;
	}
	control_set_upgrade_client(c);
}

static void run_plan(struct client *c, const struct record *r)
{
	begin_upgrade(c, r, MODE_PLAN);
}

static void run_upgrade(struct client *c, const struct record *r)
{
	begin_upgrade(c, r, record_get_bool(r, "dry_run", false) ? MODE_PLAN : MODE_UPGRADE);
}

/* What ends an upgrade, or undoes it: whoever asks hears how it goes on, from the first word. */
static void decide(struct client *c, int (*decision)(struct error *e))
{
	struct error e;

	if (sys.state == SYSTEM_STOPPING) {
		finish_busy(c);
		return;
	}
	control_set_upgrade_client(c);
	if (decision(&e) < 0)
		fail_with(c, &e);
}

static void run_commit(struct client *c, const struct record *r)
{
	(void)r;
	decide(c, upgrade_commit);
}

static int rollback_by_request(struct error *e)
{
	return upgrade_rollback("asked for by `initctl rollback`", e);
}

static void run_rollback(struct client *c, const struct record *r)
{
	(void)r;
	decide(c, rollback_by_request);
}

static void run_release(struct client *c, const struct record *r)
{
	unsigned generation = upgrade_choice().attached;
	char text[120];
	struct error e;

	(void)r;
	if (upgrade_release(&e) < 0) {
		fail_with(c, &e);
		return;
	}
	(void)snprintf(text, sizeof(text),
		"generation %u is detached: there is no way back to it any more", generation);
	control_finish(c, RESULT_OK, text);
}

/* Several may ask at once, and any of them may go away meanwhile: each question has a number. */

static struct client *holders_client(unsigned id)
{
	char number[16];

	(void)snprintf(number, sizeof(number), "%u", id);
	return control_waiting_client("holders", number);
}

static void emit_holder(unsigned id, unsigned generation, const char *text, size_t length)
{
	(void)generation;
	control_send(holders_client(id), text, length);
}

static void holders_done(unsigned id, const char *why)
{
	control_finish(holders_client(id), why ? RESULT_FAILED : RESULT_OK, why);
}

static void run_holders(struct client *c, const struct record *r)
{
	static const struct look_hooks HOOKS = {emit_holder, holders_done};
	static unsigned last_id;
	char number[16];
	struct error e;

	(void)r;
	(void)snprintf(number, sizeof(number), "%u", ++last_id);
	status_send_choice(c);
	if (upgrade_report_holders(last_id, &HOOKS, &e) < 0)
		fail_with(c, &e);
	else
		control_wait(c, "holders", number);
}

static void run_reexec(struct client *c, const struct record *r)
{
	struct error e;

	(void)r;
	if (sys.state != SYSTEM_RUNNING) {
		finish_busy(c);
		return;
	}
	if (upgrade_phase() != UPGRADE_IDLE && upgrade_phase() != UPGRADE_UNCOMMITTED) {
		control_finish(c, RESULT_BUSY, "busy: an upgrade is under way");
		return;
	}
	if (limbo_refuse(&e) < 0) {
		control_finish(c, RESULT_BUSY, e.text);
		return;
	}
	sys.reexec_wanted = true;
	/* Answered by the next life: that it is there is the answer. */
	control_wait(c, "reexec", "");
}

/* Going down */

static void go_down(struct client *c, enum shutdown_kind kind)
{
	struct error e;

	/* What is written down in there may be all that is left of this life. */
	control_wait(c, "shutdown", "");
	if (shutdown_begin(kind, &e) < 0) {
		fail_with(c, &e);
		return;
	}
	control_finish(c, RESULT_OK, NULL);
	schedule_tell_now(kind);
}

static void run_poweroff(struct client *c, const struct record *r)
{
	(void)r;
	go_down(c, SHUTDOWN_POWEROFF);
}

static void run_reboot(struct client *c, const struct record *r)
{
	(void)r;
	go_down(c, SHUTDOWN_REBOOT);
}

static void run_kexec(struct client *c, const struct record *r)
{
	(void)r;
	go_down(c, SHUTDOWN_KEXEC);
}

static void run_halt(struct client *c, const struct record *r)
{
	(void)r;
	go_down(c, SHUTDOWN_HALT);
}

static void run_single(struct client *c, const struct record *r)
{
	struct error e;

	(void)r;
	if (single_begin(&e) < 0)
		fail_with(c, &e);
	else
		control_finish(c, RESULT_OK, NULL);
}

/* False: it makes no sense, and the client has been told. */
static bool read_schedule(struct client *c, const struct record *r, struct schedule_request *q)
{
	const char *kind = field(r, "kind");
	int64_t in = record_get_int(r, "in_usec", -1), at = record_get_int(r, "at_usec", -1);

	if (!kind || !shutdown_kind_of(kind, &q->kind)) {
		control_finish(
			c, RESULT_USAGE, "what is it to do then: poweroff, reboot, kexec or halt?");
		return false;
	}
	if ((in < 0) == (at < 0)) {
		control_finish(c, RESULT_USAGE, "when? One of in_usec, at_usec");
		return false;
	}
	q->when = (struct when){.at = at >= 0, .usec = (uint64_t)(at >= 0 ? at : in)};
	q->by = field(r, "by");
	q->message = field(r, "message");
	q->quiet = !record_get_bool(r, "wall", true);
	return true;
}

static void run_schedule(struct client *c, const struct record *r)
{
	struct schedule_request q = {0};
	struct error e;

	if (!read_schedule(c, r, &q))
		return;
	if (record_get_bool(r, "only_warn", false)) {
		schedule_tell(&q);
		control_finish(c, RESULT_OK, NULL);
		return;
	}
	control_wait(c, "shutdown", ""); /* as in go_down() */
	if (schedule_set(&q, &e) < 0)
		fail_with(c, &e);
	else
		control_finish(c, RESULT_OK, NULL);
}

static void run_cancel(struct client *c, const struct record *r)
{
	bool was = schedule_cancel(
		field(r, "by"), field(r, "message"), !record_get_bool(r, "wall", true));

	control_finish(
		c, was ? RESULT_OK : RESULT_NOT_FOUND, was ? NULL : "no shutdown is scheduled");
}

static void run_configure(struct client *c, const struct record *r)
{
	struct error e;

	(void)r;
	if (system_configure(&e) < 0) {
		control_finish(c, RESULT_FAILED, e.text);
		return;
	}
	watchdog_apply();
	log_notice("init.conf read again");
	control_finish(c, RESULT_OK, NULL);
}

static const struct verb {
	const char *name;
	void (*run)(struct client *c, const struct record *r);
	bool root_only;
} VERBS[] = {
	{"status", run_status, false},
	{"version", run_version, false},
	{"blame", run_blame, false},
	{"log", run_log, false},
	{"start", run_start, true},
	{"stop", run_stop, true},
	{"restart", run_restart, true},
	{"reload", run_reload, true},
	{"plan", run_plan, true},
	{"upgrade", run_upgrade, true},
	{"commit", run_commit, true},
	{"rollback", run_rollback, true},
	{"release", run_release, true},
	{"holders", run_holders, true},
	{"reexec", run_reexec, true},
	{"poweroff", run_poweroff, true},
	{"reboot", run_reboot, true},
	{"halt", run_halt, true},
	{"kexec", run_kexec, true},
	{"single", run_single, true},
	{"schedule", run_schedule, true},
	{"cancel", run_cancel, true},
	{"configure", run_configure, true},
};

void command_run(struct client *c, const struct record *request)
{
	char text[200];

	for (size_t i = 0; i < ARRAY_SIZE(VERBS); i++) {
		if (strcmp(VERBS[i].name, request->id) != 0)
			continue;
		if (VERBS[i].root_only && !control_is_root(c)) {
			(void)snprintf(text, sizeof(text), "only root may %s", VERBS[i].name);
			control_finish(c, RESULT_DENIED, text);
			return;
		}
		VERBS[i].run(c, request);
		return;
	}
	(void)snprintf(text, sizeof(text),
		"this init (version %s) does not know the request \"%.40s\"", MOLT_VERSION,
		request->id);
	control_finish(c, RESULT_USAGE, text);
}
