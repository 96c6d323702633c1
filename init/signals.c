/* SPDX-License-Identifier: MIT */
#include "init/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "init/power.h"
#include "init/schedule.h"
#include "init/shutdown.h"
#include "init/system.h"
#include "init/watchdog.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"

static struct loop_source source = {.fd = -1};

static void go_down(enum shutdown_kind kind)
{
	struct error e;

	bool begun = sys.state == SYSTEM_STOPPING;

	if (shutdown_begin(kind, &e) < 0)
		log_warning("%s", e.text);
	else if (!begun)
		schedule_tell_now(kind);
}

/* So often within that time is somebody who does not want to wait any more. */
#define BURST 7
#define BURST_USEC (2 * USEC_PER_SEC)

static bool is_burst(void)
{
	static uint64_t pressed[BURST];
	static unsigned n;
	uint64_t now = clock_usec();

	pressed[n++ % BURST] = now;
	/* The next place has the first of the last seven. */
	return n >= BURST && now - pressed[n % BURST] <= BURST_USEC;
}

static void ctrl_alt_del(void)
{
	static const enum shutdown_kind KINDS[] = {[CTRL_ALT_DEL_REBOOT] = SHUTDOWN_REBOOT,
		[CTRL_ALT_DEL_POWEROFF] = SHUTDOWN_POWEROFF,
		[CTRL_ALT_DEL_HALT] = SHUTDOWN_HALT};
	enum ctrl_alt_del what = sys.conf->ctrl_alt_del;

	if (what == CTRL_ALT_DEL_IGNORE)
		log_notice("Ctrl-Alt-Del: ignored, as CtrlAltDel= says");
	else if (is_burst())
		shutdown_force(KINDS[what]);
	else
		go_down(KINDS[what]);
}

static void reload_conf(void)
{
	struct error e;

	if (system_configure(&e) < 0)
		log_error("%s; what was configured before goes on", e.text);
	else
		log_notice("init.conf read again");
	watchdog_apply();
}

static void reap(struct loop_timer *t)
{
	if (process_reap_all())
		timer_set(t, clock_usec());
}

static struct loop_timer reaper = {.expired = reap};

void signals_reap(void)
{
	timer_set(&reaper, clock_usec());
}

static void handle(int signal)
{
	if (signal == SIGCHLD)
		reap(&reaper);
	else if (signal == SIGINT)
		ctrl_alt_del();
	else if (signal == SIGTERM)
		sys.reexec_wanted = true;
	else if (signal == SIGHUP)
		reload_conf();
	else if (signal == SIGPWR)
		power_changed();
	else if (signal == SIGRTMIN + 4)
		go_down(SHUTDOWN_POWEROFF);
	else if (signal == SIGRTMIN + 3)
		go_down(SHUTDOWN_HALT);
	else if (signal == SIGRTMIN + 5)
		go_down(SHUTDOWN_REBOOT);
	else if (signal == SIGRTMIN + 6)
		go_down(SHUTDOWN_KEXEC);
	else if (signal == SIGRTMIN + 13)
		shutdown_force(SHUTDOWN_HALT);
	else if (signal == SIGRTMIN + 14)
		shutdown_force(SHUTDOWN_POWEROFF);
	else if (signal == SIGRTMIN + 15)
		shutdown_force(SHUTDOWN_REBOOT);
	else if (signal == SIGRTMIN + 16)
		shutdown_force(SHUTDOWN_KEXEC);
}

static void ready(struct loop_source *s, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		handle((int)info.ssi_signo);
}

int signals_open(struct error *e)
{
	static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	sigset_t set;

	(void)sigfillset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(FAULTS); i++)
		(void)sigdelset(&set, FAULTS[i]);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return error_set(e, errno, "cannot block the signals");
	CLEANUP_FD int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_set(e, errno, "cannot make a signalfd");
	source.ready = ready;
	int r = loop_add(&source, fd, EPOLLIN);
	if (r < 0)
		return error_set(e, r, "cannot watch the signals");
	(void)fd_steal(&fd);
	return 0;
}
