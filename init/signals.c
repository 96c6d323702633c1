/* SPDX-License-Identifier: MIT */
#include "init/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "init/schedule.h"
#include "init/shutdown.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"

static struct loop_source source = {.fd = -1};

static void go_down(enum shutdown_kind kind)
{
	struct error e;

	if (shutdown_begin(kind, &e) < 0)
		log_warning("%s", e.text);
	else
		schedule_tell_now(kind);
}

static void ctrl_alt_del(void)
{
	if (sys.conf->ctrl_alt_del_reboot)
		go_down(SHUTDOWN_REBOOT);
	else
		log_notice("Ctrl-Alt-Del: ignored, as CtrlAltDel= says");
}

static void reload_conf(void)
{
	struct error e;

	if (system_configure(&e) < 0)
		log_error("%s; what was configured before goes on", e.text);
	else
		log_notice("init.conf read again");
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
	else if (signal == SIGPWR || signal == SIGRTMIN + 4)
		go_down(SHUTDOWN_POWEROFF);
	else if (signal == SIGRTMIN + 3)
		go_down(SHUTDOWN_HALT);
	else if (signal == SIGRTMIN + 5)
		go_down(SHUTDOWN_REBOOT);
	else if (signal == SIGRTMIN + 6)
		go_down(SHUTDOWN_KEXEC);
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
