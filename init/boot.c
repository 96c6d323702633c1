/* SPDX-License-Identifier: MIT */
#include "init/boot.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/gettys.h"
#include "init/good.h"
#include "init/keep.h"
#include "init/late_mounts.h"
#include "init/records.h"
#include "init/rescue.h"
#include "init/single.h"
#include "init/stages.h"
#include "init/system.h"
#include "init/timeline.h"
#include "init/waiting.h"
#include "init/watchdog.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/set.h"

/* The root shells of the boot: before anything else, in place of a stage that must be and has
 * failed, and before the services. */
enum shell { SHELL_NONE, SHELL_EMERGENCY, SHELL_REPAIR, SHELL_SINGLE, N_SHELLS };

static const char *const SHELLS[N_SHELLS] = {
	[SHELL_NONE] = "",
	[SHELL_EMERGENCY] = "emergency",
	[SHELL_REPAIR] = "repair",
	[SHELL_SINGLE] = "single",
};

static bool begun;
static size_t at; /* the stage; N_STAGES: they are done */
static enum shell shell; /* what a person has now; it stands for stage `at` or comes before it */
static struct process worker; /* the child of stage `at` */
static struct loop_timer worker_timer; /* of the child or of the services of stage `at` */
static struct loop_timer tell_timer; /* who sits in front of it hears what it is at */
static uint64_t since_usec; /* stage `at` was begun */
static bool awaits_services; /* stage `at` does */
static struct process late; /* one that was not waited for any longer, and is at work still */
static size_t late_stage;
/* of the life before, until boot_resume() */
static pid_t worker_before, late_before, shell_before;
static uint64_t worker_deadline_usec;

static void begin_stage(void);
static void next_stage(void);

static void start_services(void)
{
	struct error e;

	if (sys.state == SYSTEM_STOPPING)
		return;
	shell = SHELL_NONE;
	sys.state = SYSTEM_RUNNING;
	system_spread_conf(); /* where services log, now that everything is mounted */
	late_mounts_begin();
	for (char **name = sys.conf->services; *name; name++)
		if (set_start(*name, &e) < 0)
			log_error("%s", e.text);
	gettys_start();
	records_note_running();
	if (!sys.booted_usec)
		sys.booted_usec = clock_usec();
	log_notice("booted");
	watchdog_apply(); /* one that is still missing now is told */
	/* A life that knew only some of what is started from here on would start it twice. */
	keep_now();
	good_check();
}

static void shell_ended(void)
{
	enum shell was = shell;

	shell = SHELL_NONE;
	if (was == SHELL_EMERGENCY)
		begin_stage();
	else if (was == SHELL_REPAIR)
		next_stage();
	else
		start_services();
}

static void offer_shell(enum shell which, const char *why)
{
	shell = which;
	rescue_shell(why, SHELLS[which], shell_ended);
}

void boot_to_single(void)
{
	begun = true;
	at = N_STAGES;
	offer_shell(SHELL_SINGLE, "single-user mode");
	keep_now();
}

static void end_stages(void)
{
	if (sys.state == SYSTEM_STOPPING)
		return;
	if (sys.single)
		offer_shell(SHELL_SINGLE, "single-user mode, as the kernel command line says");
	else
		start_services();
}

static void tell(struct loop_timer *t)
{
	const struct stage *s = &STAGES[at];

	if (sys.state != SYSTEM_BOOTING || shell != SHELL_NONE || at == N_STAGES)
		return;
	if (s->services)
		waiting_to_come_up(s->what, s->services(), since_usec, worker_timer.deadline_usec);
	else if (!s->tells)
		waiting_for_stage(s->what, worker.pid, since_usec, worker_timer.deadline_usec);
	timer_set(t, deadline_in(WAITING_EVERY_USEC));
}

static void watch_time(uint64_t deadline_usec, void (*expired)(struct loop_timer *t))
{
	worker_timer.expired = expired;
	timer_set(&worker_timer, deadline_usec);
	since_usec = clock_usec();
	tell_timer.expired = tell;
	timer_set(&tell_timer, deadline_in(WAITING_EVERY_USEC));
}

static void next_stage(void)
{
	timer_cancel(&tell_timer);
	at++;
	begin_stage();
}

/* `how`: "failed", "takes too long". */
static void stage_failed(const char *how)
{
	const struct stage *s = &STAGES[at];
	char text[160];

	timeline_end(s->name, true);
	(void)snprintf(text, sizeof(text), "%s %s", s->what, how);
	if (s->must) {
		offer_shell(SHELL_REPAIR, text);
		return;
	}
	log_warning("%s: the boot goes on", text);
	next_stage();
}

static void worker_exited(struct process *p, const struct process_exit *ended)
{
	const struct stage *s = &STAGES[at];

	(void)p;
	timer_cancel(&worker_timer);
	if (s->after)
		s->after();
	if (!ended->known) {
		begin_stage(); /* of a life before: what is done is not there to be done */
	} else if (process_exit_clean(ended)) {
		timeline_end(s->name, false);
		next_stage();
	} else {
		stage_failed("failed");
	}
}

static void late_exited(struct process *p, const struct process_exit *ended)
{
	const struct stage *s = &STAGES[late_stage];

	(void)p;
	(void)ended;
	if (s->after)
		s->after();
	log_notice("%s has ended after all", s->what);
}

/* It may be doing what only it can, such as waiting for a disk: who stands in for it goes on with
 * the boot. */
static void leave_behind(void)
{
	pid_t pid = worker.pid;

	process_forget(&worker);
	late.exited = late_exited;
	late_stage = at;
	if (process_watch(&late, pid, -1) < 0)
		log_warning("nobody will say when %s has ended", STAGES[at].what);
}

static void worker_timed_out(struct loop_timer *t)
{
	(void)t;
	/* What need not be done is not done at some later time either. */
	if (!STAGES[at].must || late.pid) {
		(void)process_signal(&worker, SIGKILL);
		process_forget(&worker);
	} else {
		leave_behind();
	}
	stage_failed("takes too long");
}

static uint64_t limit_of(const struct stage *s)
{
	return s->limit ? s->limit() : s->limit_usec;
}

/* What has given up is waited for no longer than what is up: a oneshot that has done its work is
 * INACTIVE again. */
static bool has_come_to_rest(const struct service *s)
{
	return s->state == STATE_INACTIVE || s->state == STATE_FAILED || service_is_active(s);
}

static bool services_have_come_to_rest(char *const *names)
{
	for (; *names; names++) {
		const struct service *s = set_find(*names);
		if (s && !has_come_to_rest(s))
			return false;
	}
	return true;
}

static bool is_wanting(const char *name)
{
	const struct service *s = set_find(name);

	return !s || !has_come_to_rest(s) || s->state == STATE_FAILED;
}

/* Also called where all are up. True: some are not, and it was told which. */
static bool tell_wanting(const struct stage *s)
{
	char list[200] = "";
	size_t length = 0;

	for (char *const *name = s->services(); *name; name++)
		if (is_wanting(*name) && length < sizeof(list))
			length += (size_t)snprintf(list + length, sizeof(list) - length, "%s%s",
				length ? ", " : "", *name);
	if (length)
		log_warning("%s: not up: %s", s->what, list);
	return length > 0;
}

static void services_timed_out(struct loop_timer *t)
{
	(void)t;
	awaits_services = false;
	if (sys.state != SYSTEM_BOOTING)
		return;
	(void)tell_wanting(&STAGES[at]);
	stage_failed("takes too long");
}

void boot_services_changed(void)
{
	const struct stage *s = &STAGES[at];

	if (!awaits_services || sys.state != SYSTEM_BOOTING ||
		!services_have_come_to_rest(s->services()))
		return;
	awaits_services = false;
	timer_cancel(&worker_timer);
	if (tell_wanting(s)) {
		stage_failed("failed");
	} else {
		timeline_end(s->name, false);
		next_stage();
	}
}

/* One that is up already, since a life before, stays as it is. */
static void begin_services(const struct stage *s)
{
	struct error e;

	watch_time(worker_deadline_usec ? worker_deadline_usec : deadline_in(limit_of(s)),
		services_timed_out);
	worker_deadline_usec = 0;
	for (char *const *name = s->services(); *name; name++)
		if (set_start(*name, &e) < 0)
			log_error("%s", e.text);
	awaits_services = true;
	boot_services_changed();
}

static void begin_worker(const struct stage *s)
{
	int pidfd;

	worker_deadline_usec = 0;
	watch_time(deadline_in(limit_of(s)), worker_timed_out);
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		_exit(s->child());
	if (pid > 0)
		keep_note_child(s->name, pid);
	worker.exited = worker_exited;
	if (pid < 0 || process_watch(&worker, pid, pidfd) < 0) {
		timer_cancel(&worker_timer);
		stage_failed("failed: it cannot be forked for");
	}
}

static void begin_stage(void)
{
	for (; at < N_STAGES; at++) {
		const struct stage *s = &STAGES[at];
		if (sys.state == SYSTEM_STOPPING)
			return;
		if (stage_is_skipped(s)) {
			log_notice("%s is left out, as molt.skip= says", s->what);
			continue;
		}
		timeline_begin(s->name);
		if (s->here)
			s->here();
		if (s->child || s->services) {
			(s->child ? begin_worker : begin_services)(s);
			return;
		}
		timeline_end(s->name, false);
	}
	end_stages();
}

void boot_begin(void)
{
	begun = true;
	if (sys.emergency)
		offer_shell(SHELL_EMERGENCY, "emergency mode, as the kernel command line says");
	else
		begin_stage();
}

/* State */

void boot_save(struct record_writer *w)
{
	if (sys.state != SYSTEM_BOOTING)
		return;
	record_begin(w, "boot", "");
	record_text(w, "step", shell ? SHELLS[shell] : at < N_STAGES ? STAGES[at].name : "");
	record_text(w, "stage", at < N_STAGES ? STAGES[at].name : NULL);
	record_bool(w, "begun", begun);
	record_bool(w, "single", sys.single);
	record_bool(w, "emergency", sys.emergency);
	single_save(w);
	record_int(w, "worker_pid", worker.pid);
	record_int(w, "worker_deadline_usec", (int64_t)worker_timer.deadline_usec);
	record_int(w, "late_pid", late.pid);
	record_text(w, "late_stage", late.pid ? STAGES[late_stage].name : NULL);
	record_int(w, "shell_pid", rescue_pid());
	stages_save(w);
	record_end(w);
}

static enum shell shell_of(const char *word)
{
	for (unsigned i = 1; i < N_SHELLS; i++)
		if (strcmp(word, SHELLS[i]) == 0)
			return (enum shell)i;
	return SHELL_NONE;
}

void boot_load(const struct record *r)
{
	const char *step = record_get(r, "step"), *stage = record_get(r, "stage");

	shell = shell_of(step ? step : "");
	begun = record_get_bool(r, "begun", step && *step);
	/* One that this version does not have was of another: from the beginning then. */
	at = stage_find(stage ? stage : "");
	single_load(r);
	if (at == N_STAGES)
		at = shell == SHELL_SINGLE || single_is_coming() ? N_STAGES : 0;
	sys.single = record_get_bool(r, "single", false);
	sys.emergency = record_get_bool(r, "emergency", false);
	worker_before = (pid_t)record_get_int(r, "worker_pid", 0);
	worker_deadline_usec = (uint64_t)record_get_int(r, "worker_deadline_usec", 0);
	shell_before = (pid_t)record_get_int(r, "shell_pid", 0);
	late_before = (pid_t)record_get_int(r, "late_pid", 0);
	stage = record_get(r, "late_stage");
	late_stage = stage_find(stage ? stage : "");
	stages_load(r);
}

void boot_each_fd(int (*visit)(int fd))
{
	stages_each_fd(visit);
}

void boot_load_child(const struct record *r)
{
	enum shell which = shell_of(r->id);
	size_t stage = stage_find(r->id);
	pid_t pid = (pid_t)record_get_int(r, "pid", 0);

	if (sys.state != SYSTEM_BOOTING || (which == SHELL_NONE && stage == N_STAGES))
		return;
	begun = true;
	shell = which;
	if (which != SHELL_NONE) {
		shell_before = pid;
		return;
	}
	at = stage;
	worker_before = pid;
	worker_deadline_usec = deadline_in(limit_of(&STAGES[at]));
}

/* True: the child of the stage is there to be waited for. */
static bool resume_worker(void)
{
	late.exited = late_exited;
	if (late_before && late_stage < N_STAGES && process_adopt(&late, late_before, -1, true) < 0)
		late_exited(&late, NULL);
	worker.exited = worker_exited;
	if (at == N_STAGES || !worker_before || shell != SHELL_NONE ||
		process_adopt(&worker, worker_before, -1, true) < 0) {
		if (worker_before)
			worker_deadline_usec = 0; /* of a child, which is begun anew */
		return false;
	}
	/* 0: a stage without a limit has none set. */
	watch_time(worker_deadline_usec ? worker_deadline_usec : USEC_INFINITY, worker_timed_out);
	worker_deadline_usec = 0;
	return true;
}

void boot_resume(void)
{
	if (sys.state != SYSTEM_BOOTING)
		return;
	log_notice("going on with the boot");
	if (!begun) {
		boot_begin();
		return;
	}
	if (shell != SHELL_NONE)
		single_has_come();
	if (single_is_coming()) {
		single_resume();
		return;
	}
	bool waiting = resume_worker();
	if (shell == SHELL_NONE && !waiting)
		begin_stage();
	else if (shell != SHELL_NONE && !rescue_adopt(shell_before, shell_ended))
		shell_ended();
}
