/* SPDX-License-Identifier: MIT */
#include "init/shutdown.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "init/good.h"
#include "init/initramfs_exit.h"
#include "init/keep.h"
#include "init/records.h"
#include "init/reexec.h"
#include "init/system.h"
#include "init/unmount.h"
#include "init/waiting.h"
#include "init/watchdog.h"
#include "kernel/cgroup.h"
#include "kernel/crash.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/upgrade.h"

#define TERM_USEC (5 * USEC_PER_SEC)
#define KILL_USEC (10 * USEC_PER_SEC)
#define UNMOUNT_USEC (60 * USEC_PER_SEC)
#define SYNC_USEC (10 * USEC_PER_SEC)

enum step { STEP_NONE, STEP_SERVICES, STEP_TERM, STEP_KILL, STEP_UNMOUNT, STEP_END, STEP_FORCE };

static const char *const WORDS[] = {[SHUTDOWN_POWEROFF] = "poweroff",
	[SHUTDOWN_REBOOT] = "reboot",
	[SHUTDOWN_KEXEC] = "kexec",
	[SHUTDOWN_HALT] = "halt"};

static const char *const NAMES[] = {[SHUTDOWN_POWEROFF] = "power off",
	[SHUTDOWN_REBOOT] = "reboot",
	[SHUTDOWN_KEXEC] = "reboot by kexec",
	[SHUTDOWN_HALT] = "halt"};
static const char *const STEPS[] = {[STEP_NONE] = "",
	[STEP_SERVICES] = "services",
	[STEP_TERM] = "term",
	[STEP_KILL] = "kill",
	[STEP_UNMOUNT] = "unmount",
	[STEP_END] = "end",
	[STEP_FORCE] = "force"};

static enum step step;
static enum shutdown_kind kind;
static struct loop_timer timer, tell_timer, deadline_timer;
static uint64_t step_since_usec;
static struct process syncer;
static struct loop_source events = {.fd = -1};
static struct process unmounter;
/* of the life before, until shutdown_resume() */
static pid_t unmounter_before;
static uint64_t deadline_before_usec, end_by_before_usec;

static void advance(void);
static void start_unmounter(void);

static void timer_expired(struct loop_timer *t)
{
	(void)t;
	advance();
}

static void events_ready(struct loop_source *s, uint32_t what)
{
	bool populated;

	(void)what;
	/* Read in every step: what is not read stays ready, and the loop would spin on it. */
	if (cgroup_events(s->fd, &populated, NULL) == 0 && !populated &&
		(step == STEP_TERM || step == STEP_KILL))
		advance();
}

/* What is waited for now, in words. */
static void tell(struct loop_timer *t)
{
	switch (step) {
	case STEP_SERVICES:
		waiting_for_services(timer.deadline_usec);
		break;
	case STEP_TERM:
	case STEP_KILL:
		waiting_for_processes(step == STEP_KILL);
		break;
	case STEP_UNMOUNT:
		waiting_for_child("the file systems to be unmounted", unmounter.pid,
			step_since_usec, timer.deadline_usec);
		break;
	case STEP_NONE:
	case STEP_END:
	case STEP_FORCE:
		return;
	}
	timer_set(t, deadline_in(WAITING_EVERY_USEC));
}

static void enter(enum step next)
{
	step = next;
	step_since_usec = clock_usec();
	/* The one of the services counts from the beginning, through TERM and KILL. */
	if (!timer_armed(&tell_timer) || next == STEP_UNMOUNT)
		timer_set(&tell_timer, deadline_in(WAITING_EVERY_USEC));
}

static bool tree_is_empty(void)
{
	bool populated = false;

	return events.fd >= 0 && cgroup_events(events.fd, &populated, NULL) == 0 && !populated;
}

static bool kernel_is_loaded(void)
{
	char text[8];

	return sys.real &&
	       file_read(AT_FDCWD, "/sys/kernel/kexec_loaded", text, sizeof(text)) > 0 &&
	       text[0] == '1';
}

static void __attribute__((noreturn)) end_system(void)
{
	static const int REAL[] = {[SHUTDOWN_POWEROFF] = RB_POWER_OFF,
		[SHUTDOWN_REBOOT] = RB_AUTOBOOT,
		[SHUTDOWN_KEXEC] = RB_AUTOBOOT,
		[SHUTDOWN_HALT] = RB_HALT_SYSTEM};

	log_notice("good-bye");
	/* In a PID namespace the kernel ends us here (reboot(2)); on a machine it never returns,
	 * but for a halt that cannot be, or a power-off without the hardware for it. */
	if (kind == SHUTDOWN_KEXEC || (kind == SHUTDOWN_REBOOT && kernel_is_loaded()))
		(void)reboot(RB_KEXEC);
	(void)reboot(REAL[kind]);
	(void)reboot(RB_HALT_SYSTEM);
	for (;;)
		(void)pause();
}

static void unmounter_exited(struct process *p, const struct process_exit *ended)
{
	(void)p;
	if (!ended->known) {
		start_unmounter(); /* of a life before: what is done is not there to be done */
		return;
	}
	step = STEP_END;
	bool needs_successor = !ended->signal && ended->status == UNMOUNT_NEEDS_SUCCESSOR;
	if (!needs_successor && !process_exit_clean(ended))
		log_warning("not everything could be unmounted");
	/* What is executed there lets go of a replaced program as well as a successor does. */
	initramfs_exit(
		WORDS[kind == SHUTDOWN_REBOOT && kernel_is_loaded() ? SHUTDOWN_KEXEC : kind]);
	if (needs_successor) {
		log_notice("trying once more, as the %s that is there now", INIT_PATH);
		reexec_end(WORDS[kind]);
	}
	end_system();
}

const char *shutdown_word(enum shutdown_kind k)
{
	return WORDS[k];
}

const char *shutdown_name(enum shutdown_kind k)
{
	return NAMES[k];
}

bool shutdown_kind_of(const char *word, enum shutdown_kind *ret)
{
	for (size_t k = 0; k < ARRAY_SIZE(WORDS); k++) {
		if (strcmp(WORDS[k], word) == 0) {
			*ret = (enum shutdown_kind)k;
			return true;
		}
	}
	return false;
}

/* What is not known ends all the same, and hurts least. */
static enum shutdown_kind kind_of(const char *word)
{
	enum shutdown_kind k = SHUTDOWN_HALT;

	(void)shutdown_kind_of(word, &k);
	return k;
}

void shutdown_end(const char *how)
{
	kind = kind_of(how);
	/* A namespace shares its file systems with the world outside. */
	if (sys.real && unmount_read_only(true) > 0)
		log_warning("not everything could be unmounted");
	sync();
	end_system();
}

/* Whoever closes the last descriptor of an older generation waits for its disk. So that it is not
 * PID 1, which keeps the time, the child lets go of all as well, once PID 1 has. */
static void __attribute__((noreturn)) unmount_as_child(const int ends[2])
{
	char none;

	(void)fd_close(ends[1]);
	while (read(ends[0], &none, 1) < 0 && errno == EINTR)
		;
	upgrade_let_go();
	unmount_everything();
}

static void start_unmounter(void)
{
	int pidfd, ends[2] = {-1, -1};

	if (pipe2(ends, O_CLOEXEC) < 0)
		log_warning("cannot make a pipe: %s", strerror(errno));
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		unmount_as_child(ends);
	upgrade_let_go();
	(void)fd_close(ends[0]);
	(void)fd_close(ends[1]);
	if (pid > 0)
		keep_note_child(STEPS[STEP_UNMOUNT], pid);
	unmounter.exited = unmounter_exited;
	if (pid < 0 || process_watch(&unmounter, pid, pidfd) < 0) {
		log_error("cannot fork to unmount: %s", strerror(errno));
		end_system();
	}
	timer_set(&timer, deadline_in(UNMOUNT_USEC));
}

/* Each step in turn; called when the one before is done, or late. */
static void advance(void)
{
	switch (step) {
	case STEP_NONE:
		enter(STEP_SERVICES);
		set_stop_all();
		timer_set(&timer, deadline_in(sys.conf->shutdown_timeout_usec));
		return;
	case STEP_SERVICES:
		if (!set_all_down())
			log_warning("services that have not stopped in time are killed");
		enter(STEP_TERM);
		(void)cgroup_signal(sys.tree, SIGTERM);
		(void)cgroup_signal(sys.tree, SIGCONT);
		timer_set(&timer, tree_is_empty() ? clock_usec() : deadline_in(TERM_USEC));
		return;
	case STEP_TERM:
		enter(STEP_KILL);
		if (!tree_is_empty())
			set_kill_all();
		timer_set(&timer, tree_is_empty() ? clock_usec() : deadline_in(KILL_USEC));
		return;
	case STEP_KILL:
		if (!tree_is_empty())
			waiting_for_processes(true);
		enter(STEP_UNMOUNT);
		start_unmounter();
		return;
	case STEP_UNMOUNT:
		log_error("unmounting takes too long");
		end_system();
	case STEP_END:
	case STEP_FORCE:
		return;
	}
}

/* The end that nothing stops */

static void syncer_exited(struct process *p, const struct process_exit *ended)
{
	(void)p;
	(void)ended;
	end_system();
}

static void sync_timed_out(struct loop_timer *t)
{
	(void)t;
	waiting_for_child("the disks to be written", syncer.pid, step_since_usec, 0);
	end_system();
}

static void force(void)
{
	int pidfd;

	step = STEP_FORCE;
	step_since_usec = clock_usec();
	sys.state = SYSTEM_STOPPING;
	crash_set_end(WORDS[kind]);
	timer_cancel(&tell_timer);
	timer_cancel(&deadline_timer);
	timer.expired = sync_timed_out;
	timer_set(&timer, deadline_in(SYNC_USEC));
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		sync();
		_exit(0);
	}
	syncer.exited = syncer_exited;
	if (pid < 0 || process_watch(&syncer, pid, pidfd) < 0)
		end_system();
}

void shutdown_force(enum shutdown_kind what)
{
	if (step == STEP_FORCE)
		end_system();
	/* How was said before: this says only that it is now. */
	if (step == STEP_NONE)
		kind = what;
	waiting_say("forced to %s: what runs is not waited for", NAMES[kind]);
	force();
}

static void deadline_passed(struct loop_timer *t)
{
	(void)t;
	waiting_say(
		"the shutdown has taken all of ShutdownDeadlineSec= and is forced now (it was at: %s)",
		STEPS[step]);
	force();
}

static void watch_time(uint64_t end_by_usec)
{
	tell_timer.expired = tell;
	deadline_timer.expired = deadline_passed;
	timer_set(&deadline_timer, end_by_usec);
}

void shutdown_services_changed(void)
{
	if (step == STEP_SERVICES && set_all_down())
		advance();
}

static void watch_tree(void)
{
	int fd = cgroup_open_events(sys.tree);

	timer.expired = timer_expired;
	events.ready = events_ready;
	if (fd < 0 || loop_add(&events, fd, EPOLLPRI) < 0)
		log_warning("cannot watch the tree: each step takes its whole time");
}

int shutdown_begin(enum shutdown_kind what, struct error *e)
{
	if (what == SHUTDOWN_KEXEC && !kernel_is_loaded())
		return error_say(
			e, ENODEV, "no kernel is loaded to boot by kexec (`kexec -l` loads one)");
	if (step > STEP_SERVICES)
		return error_say(e, EBUSY, "busy: the system is going down already");
	if (!upgrade_can_be_cancelled())
		return error_say(e, EBUSY, "busy: an upgrade is under way");
	kind = what;
	crash_set_end(WORDS[kind]);
	if (step == STEP_SERVICES) {
		keep_now();
		return 0;
	}
	log_notice("going down: %s", NAMES[what]);
	records_note_shutdown();
	sys.state = SYSTEM_STOPPING;
	upgrade_cancel();
	watchdog_shutdown(kind == SHUTDOWN_HALT);
	good_cancel();
	watch_tree();
	watch_time(deadline_in(sys.conf->shutdown_deadline_usec));
	advance();
	/* Before anybody is told that it has begun: from here on a crash does not end it. */
	keep_now();
	return 0;
}

/* State */

void shutdown_save(struct record_writer *w)
{
	if (sys.state != SYSTEM_STOPPING)
		return;
	record_begin(w, "shutdown", "");
	record_text(w, "kind", WORDS[kind]);
	record_text(w, "step", STEPS[step]);
	record_int(w, "deadline_usec", (int64_t)timer.deadline_usec);
	record_int(w, "end_by_usec", (int64_t)deadline_timer.deadline_usec);
	record_int(w, "pid", unmounter.pid);
	record_end(w);
}

void shutdown_load(const struct record *r)
{
	const char *how = record_get(r, "kind"), *word = record_get(r, "step");

	kind = kind_of(how ? how : "");
	step = STEP_FORCE;
	/* One that is not known is done from the beginning. */
	while (step > STEP_NONE && strcmp(STEPS[step], word ? word : "") != 0)
		step--;
	deadline_before_usec = (uint64_t)record_get_int(r, "deadline_usec", 0);
	end_by_before_usec = (uint64_t)record_get_int(r, "end_by_usec", 0);
	unmounter_before = (pid_t)record_get_int(r, "pid", 0);
}

void shutdown_load_child(const struct record *r)
{
	if (sys.state != SYSTEM_STOPPING || strcmp(r->id, STEPS[STEP_UNMOUNT]) != 0)
		return;
	step = STEP_UNMOUNT;
	unmounter_before = (pid_t)record_get_int(r, "pid", 0);
	deadline_before_usec = deadline_in(UNMOUNT_USEC);
}

static void resume_unmounter(void)
{
	unmounter.exited = unmounter_exited;
	if (unmounter_before && process_adopt(&unmounter, unmounter_before, -1, true) == 0)
		timer_set(&timer, deadline_before_usec);
	else
		start_unmounter();
}

void shutdown_resume(void)
{
	bool done;

	if (sys.state != SYSTEM_STOPPING)
		return;
	log_notice("going on with the shutdown: %s", NAMES[kind]);
	crash_set_end(WORDS[kind]);
	if (step == STEP_FORCE) {
		force();
		return;
	}
	upgrade_cancel();
	watch_tree();
	watch_time(end_by_before_usec ? end_by_before_usec
				      : deadline_in(sys.conf->shutdown_deadline_usec));
	step_since_usec = clock_usec();
	timer_set(&tell_timer, deadline_in(WAITING_EVERY_USEC));
	if (step == STEP_NONE) {
		advance();
		return;
	}
	set_stop_all();
	if (step == STEP_UNMOUNT || step == STEP_END) {
		step = STEP_UNMOUNT;
		resume_unmounter();
		return;
	}
	done = step != STEP_SERVICES && tree_is_empty();
	timer_set(&timer, done || !deadline_before_usec ? clock_usec() : deadline_before_usec);
}
