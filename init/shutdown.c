/* SPDX-License-Identifier: MIT */
#include "init/shutdown.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "init/reexec.h"
#include "init/system.h"
#include "init/unmount.h"
#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/upgrade.h"

#define TERM_USEC (5 * USEC_PER_SEC)
#define KILL_USEC (10 * USEC_PER_SEC)
#define UNMOUNT_USEC (60 * USEC_PER_SEC)

enum step { STEP_NONE, STEP_SERVICES, STEP_TERM, STEP_KILL, STEP_UNMOUNT, STEP_END };

static const char *const WORDS[] = {
	[SHUTDOWN_POWEROFF] = "poweroff", [SHUTDOWN_REBOOT] = "reboot", [SHUTDOWN_HALT] = "halt"};

static enum step step;
static enum shutdown_kind kind;
static struct loop_timer timer;
static struct loop_source events = {.fd = -1};
static struct process unmounter;

static void advance(void);

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

static bool tree_is_empty(void)
{
	bool populated = false;

	return events.fd >= 0 && cgroup_events(events.fd, &populated, NULL) == 0 && !populated;
}

static void __attribute__((noreturn)) end_system(void)
{
	static const int REAL[] = {[SHUTDOWN_POWEROFF] = RB_POWER_OFF,
		[SHUTDOWN_REBOOT] = RB_AUTOBOOT,
		[SHUTDOWN_HALT] = RB_HALT_SYSTEM};

	log_notice("good-bye");
	/* In a PID namespace the kernel ends us here (reboot(2)); on a machine it never returns,
	 * but for a halt that cannot be, or a power-off without the hardware for it. */
	(void)reboot(REAL[kind]);
	(void)reboot(RB_HALT_SYSTEM);
	for (;;)
		(void)pause();
}

static void unmounter_exited(struct process *p, const struct process_exit *ended)
{
	(void)p;
	step = STEP_END;
	if (ended->known && !ended->signal && ended->status == UNMOUNT_NEEDS_SUCCESSOR) {
		log_notice("trying once more, as the %s that is there now", INIT_PATH);
		reexec_end(WORDS[kind]);
	}
	if (!process_exit_clean(ended))
		log_warning("not everything could be unmounted");
	end_system();
}

void shutdown_end(const char *how)
{
	for (kind = SHUTDOWN_POWEROFF; kind < SHUTDOWN_HALT && strcmp(WORDS[kind], how) != 0;
		kind++)
		;
	if (unmount_read_only(true) > 0)
		log_warning("not everything could be unmounted");
	sync();
	end_system();
}

static void start_unmounter(void)
{
	int pidfd;
	pid_t pid = process_fork(-1, &pidfd);

	if (pid == 0)
		unmount_everything();
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
		step = STEP_SERVICES;
		set_stop_all();
		timer_set(&timer, deadline_in(sys.conf->shutdown_timeout_usec));
		return;
	case STEP_SERVICES:
		if (!set_all_down())
			log_warning("services that have not stopped in time are killed");
		step = STEP_TERM;
		(void)cgroup_signal(sys.tree, SIGTERM);
		(void)cgroup_signal(sys.tree, SIGCONT);
		timer_set(&timer, tree_is_empty() ? clock_usec() : deadline_in(TERM_USEC));
		return;
	case STEP_TERM:
		step = STEP_KILL;
		if (!tree_is_empty())
			set_kill_all();
		timer_set(&timer, tree_is_empty() ? clock_usec() : deadline_in(KILL_USEC));
		return;
	case STEP_KILL:
		if (!tree_is_empty())
			log_error("processes are left that do not end on SIGKILL");
		upgrade_let_go();
		step = STEP_UNMOUNT;
		start_unmounter();
		return;
	case STEP_UNMOUNT:
		log_error("unmounting takes too long");
		end_system();
	case STEP_END:
		return;
	}
}

void shutdown_services_changed(void)
{
	if (step == STEP_SERVICES && set_all_down())
		advance();
}

int shutdown_begin(enum shutdown_kind what, struct error *e)
{
	static const char *const NAMES[] = {"power off", "reboot", "halt"};

	if (step > STEP_SERVICES)
		return error_say(e, EBUSY, "busy: the system is going down already");
	if (!upgrade_can_be_cancelled())
		return error_say(e, EBUSY, "busy: an upgrade is under way");
	kind = what;
	if (step == STEP_SERVICES)
		return 0;
	log_notice("going down: %s", NAMES[what]);
	sys.state = SYSTEM_STOPPING;
	upgrade_cancel();
	timer.expired = timer_expired;
	int fd = cgroup_open_events(sys.tree);
	events.ready = events_ready;
	if (fd < 0 || loop_add(&events, fd, EPOLLPRI) < 0)
		log_warning("cannot watch the tree: each step takes its whole time");
	advance();
	return 0;
}
