/* SPDX-License-Identifier: MIT */
/*
 * PID 1. Its lives: a boot begins with nothing; after a re-exec or an upgrade the next one takes up
 * a state from a memfd; and where a new init could not, the old one comes back. All end in the same
 * loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "init/boot.h"
#include "init/commands.h"
#include "init/control.h"
#include "init/good.h"
#include "init/initramfs.h"
#include "init/initramfs_exit.h"
#include "init/keep.h"
#include "init/late_mounts.h"
#include "init/minimal.h"
#include "init/reexec.h"
#include "init/schedule.h"
#include "init/shutdown.h"
#include "init/signals.h"
#include "init/single.h"
#include "init/state.h"
#include "init/successor.h"
#include "init/system.h"
#include "init/unmount.h"
#include "init/watchdog.h"
#include "kernel/crash.h"
#include "kernel/environment.h"
#include "kernel/features.h"
#include "kernel/guard.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/inbox.h"
#include "services/notify.h"
#include "services/set.h"
#include "upgrade/limbo.h"
#include "upgrade/report.h"
#include "upgrade/upgrade.h"

static const struct upgrade_hooks UPGRADE_HOOKS = {
	.emit = command_upgrade_emit,
	.finished = command_upgrade_finished,
	.snapshot = state_snapshot,
	.keep = keep_now,
};

static void services_changed(void)
{
	control_services_changed();
	boot_services_changed();
	single_services_changed();
	shutdown_services_changed();
	good_check();
}

/* PID 1 holds sockets and pidfds of every service, and directories while it migrates: the default
 * 1,024 could run out. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	world.nofile = limit; /* of the first life; a later one reads it in the state */
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* What every life needs, whatever it goes on with. */
static int set_up(const struct life *l, struct error *e)
{
	int r;

	if ((r = loop_init()) < 0)
		return error_set(e, r, "cannot make the event loop");
	if ((r = signals_open(e)) < 0 || (r = system_open_tree(e)) < 0 ||
		(r = upgrade_init(sys.tree, &UPGRADE_HOOKS, e)) < 0)
		return r;
	set_init(services_changed);
	/* A broken init.conf is told, and the defaults hold: except where the init before can take
	 * over again, with what it has read. */
	if (system_configure(e) < 0) {
		log_error("%s", e->text);
		return sys.conf && l->fallback_root < 0 ? 0 : e->code;
	}
	if (l->fallback_root >= 0)
		set_be_strict();
	return 0;
}

static void answer_reexec(const char *why)
{
	char text[400];

	(void)snprintf(
		text, sizeof(text), "the new init %s; the one before goes on", why ? why : "");
	control_resume(why ? text : NULL);
}

static void tell_crash(const char *text)
{
	int signal = 0;
	unsigned long long where = 0, address = 0;
	int fault = 0;
	char place[64] = ", sent by somebody";
	const char *name;

	/* 0: a minimal life that did not come about by a crash. */
	if (sscanf(text, "%d %llx %llx %d", &signal, &where, &address, &fault) < 1 || signal == 0)
		return;
	name = sigabbrev_np(signal);
	sys.crashes++;
	if (where)
		(void)snprintf(
			place, sizeof(place), " at molt+0x%llx (address 0x%llx)", where, address);
	else if (fault)
		(void)snprintf(place, sizeof(place), " in a library (address 0x%llx)", address);
	(void)snprintf(sys.last_crash, sizeof(sys.last_crash), "SIG%s%s", name ? name : "?", place);
	log_error("PID 1 crashed: %s; it goes on", sys.last_crash);
}

/* What a life that ended in the middle of something left behind. */
static void clean_up_after_crash(const struct life *l)
{
	tell_crash(l->crashed);
	state_load_notes(l->notes_fd);
}

static enum life_kind kind_of(const struct life *l)
{
	if (l->crashed)
		return l->real_root >= 0 ? LIFE_CRASHED_AWAY : LIFE_CRASHED;
	return l->real_root >= 0 ? LIFE_RETURNED : LIFE_NEXT;
}

static int take_up(const struct life *l, struct error *e)
{
	int r = state_load(l->state_fd, l->crashed, e);

	if (r < 0)
		return r;
	/* From here on we act. Before, nothing has changed, and the one before could be brought
	 * back. */
	guard_say_up(l->guard);
	(void)fd_set_cloexec(l->state_fd, true);
	(void)fd_set_cloexec(l->notes_fd, true);
	state_keep_descriptors(false);
	/* Whatever the life before was: an init that gave PID 1 back without knowing of its guard
	 * has left the channel to it open, and one of another version what only that one knows. */
	if (l->crashed)
		state_load_messages(l->notes_fd);
	state_sweep_descriptors();
	if (l->crashed)
		clean_up_after_crash(l);
	system_spread_conf();
	log_notice("molt %s: took up the state, generation %u", MOLT_VERSION, upgrade_generation());
	if (l->why)
		log_error("the new init %s: this one was brought back", l->why);
	crash_give_back_to(-1);
	/* What is started from here on is noted, though there is no state of this life yet. */
	keep_notes_from(l->state_fd, l->notes_fd);
	service_forked = keep_note_fork;
	set_resume(l->crashed);
	if (l->crashed)
		control_crashed();
	upgrade_resume(kind_of(l), l->why);
	boot_resume();
	late_mounts_resume();
	shutdown_resume();
	schedule_resume();
	watchdog_apply();
	good_check();
	answer_reexec(l->why);
	signals_reap();
	return 0;
}

/* The image's init has been asked whether it can take over: that must do then. */
static void warn_unguarded(const char *why)
{
	report_progress("nobody can watch over the new init while it takes over: %s", why);
}

static void exec_for_upgrade(void)
{
	struct error e;

	if (reexec(sys.conf->exec_timeout_usec, warn_unguarded, &e) < 0)
		upgrade_exec_failed(e.text);
}

static void log_unguarded(const char *why)
{
	log_warning("nobody can watch over the new init while it takes over: %s", why);
}

static bool may_exec_again(void)
{
	/* What a child does for us ends soon, one way or the other, and would be lost. */
	return sys.reexec_wanted && !upgrade_exec_wanted() && sys.state == SYSTEM_RUNNING &&
	       upgrade_can_be_carried() && limbo_is_empty() && !good_is_busy();
}

static bool successor_fit;

static void refuse_exec(const char *why)
{
	char text[700];

	sys.reexec_wanted = false;
	log_error("not re-executed: %s", why);
	(void)snprintf(text, sizeof(text),
		"%s; the init that runs goes on, nothing has changed: mend that (or put back the %s that worked) and ask again",
		why, INIT_PATH);
	control_resume(text);
}

static void successor_answered(const char *why)
{
	/* An upgrade has come in between: then there may be another one to ask, after it. */
	if (!may_exec_again())
		return;
	successor_fit = !why;
	if (why)
		refuse_exec(why);
}

static void ask_successor(void)
{
	struct error e;

	if (successor_ask(sys.conf->check_timeout_usec, successor_answered, &e) < 0)
		refuse_exec(e.text);
}

static void exec_again(void)
{
	struct error e;

	successor_fit = false;
	set_settle();
	keep_now();
	if (reexec(sys.conf->exec_timeout_usec, log_unguarded, &e) < 0)
		refuse_exec(e.text);
	keep_now(); /* still here: it could not be */
}

static void exec_if_wanted(void)
{
	if (upgrade_exec_wanted()) {
		set_settle();
		keep_now();
		exec_for_upgrade();
		keep_now();
	} else if (!may_exec_again()) {
		successor_fit = false;
	} else if (successor_fit) {
		exec_again();
	} else if (!successor_is_asked()) {
		ask_successor();
	}
}

static void __attribute__((noreturn)) live(void)
{
	notify_ask_for_pidfds(true);
	for (;;) {
		int r = loop_run_once();
		if (r < 0)
			log_error("the event loop: %s", strerror(-r));
		keep_turn();
		if (crash_asked()) {
			keep_now();
			crash_now(crash_asked());
		}
		exec_if_wanted();
	}
}

static void crash_wakes(struct loop_source *s, uint32_t events)
{
	(void)s;
	(void)events; /* live() asks crash_asked() after each turn */
}

/* The next life after a crash begins with the state of this one. */
static void begin_keeping(const struct life *l)
{
	static struct loop_source waker = {.fd = -1, .ready = crash_wakes};
	struct error e;

	service_keep = keep_now;
	notify_heard = keep_note_message;
	service_forked = keep_note_fork;
	if (keep_open(&e) < 0)
		log_error("%s: a crash would begin with what there is now", e.text);
	else
		(void)fd_close(l->state_fd);
	if (crash_wake_fd() >= 0 && loop_add(&waker, crash_wake_fd(), EPOLLIN) < 0)
		log_warning("cannot watch for signals that mean a crash");
	identity_close_left();
}

/* Nobody else's business: no service gets it. */
static void take_initramfs_time(void)
{
	const char *text = getenv(INITRAMFS_USEC);

	if (text && !parse_u64(text, &sys.initramfs_usec))
		sys.initramfs_usec = 0;
	(void)unsetenv(INITRAMFS_USEC);
	environment_take();
}

/* It boots as far as it can: told now, and again by whoever is refused something for it. */
static void look_at_kernel(void)
{
	char missing[160];

	features_missing(sys.tree, missing, sizeof(missing));
	if (missing[0])
		log_error(
			"this kernel lacks %s: no upgrades and no rollbacks with it, and what a service leaves behind may live on; Linux " FEATURES_SINCE
			" or later has all that molt wants",
			missing);
}

static int begin_boot(const struct life *l, struct error *e)
{
	int r;

	/* So early that nothing was written down: there is nothing to take up but what is open. */
	if (l->crashed) {
		tell_crash(l->crashed);
		state_sweep_descriptors();
	}
	log_notice("molt %s: booting%s", MOLT_VERSION, sys.real ? "" : " a namespace");
	look_at_kernel();
	sys.boot_usec = clock_usec();
	take_initramfs_time();
	begin_keeping(l);
	if ((r = notify_open(e)) < 0 || (r = control_open(e)) < 0)
		return r;
	boot_begin();
	watchdog_apply();
	return 0;
}

static void __attribute__((noreturn)) cannot_go_on(const struct error *e)
{
	log_error("cannot go on: %s", e->text);
	minimal_run(e->text, sys.conf ? sys.conf->console : NULL,
		sys.conf ? sys.conf->rescue_shell : NULL);
}

/* Nothing can be executed after a crash, not even ourselves. */
static void give_up(void)
{
	minimal_run(NULL, NULL, NULL);
}

static int usage(FILE *out)
{
	(void)fprintf(out,
		"molt %s: init, PID 1. It is started by the kernel, or as PID 1 of a namespace.\n"
		"  --version          print the version\n"
		"  --check-state FD   could this program take up the state in FD?\n"
		"A person who runs `init 0`, `init 6`, `init q` or `init u` means telinit(8).\n"
		"See molt(8); initctl(8) talks to a running one.\n",
		MOLT_VERSION);
	return out == stdout ? 0 : 2;
}

/* `init 6`, said by a person: what telinit(8) does. */
static bool is_for_telinit(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];

	return (strcmp(name, "init") == 0 && argc > 1 && strncmp(argv[1], "--", 2) != 0) ||
	       strcmp(name, "telinit") == 0;
}

static int run_telinit(char **argv)
{
	argv[0] = (char *)"telinit";
	(void)execvp("initctl", argv);
	(void)fprintf(stderr, "init: cannot execute initctl: %s\n", strerror(errno));
	return 1;
}

static int run_as_program(int argc, char **argv)
{
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
	uint64_t fd;

	if (argc > 0 && is_for_telinit(argc, argv))
		return run_telinit(argv);

	/* In an initramfs it is that too. */
	if (name && strcmp(name, "/modprobe") == 0)
		return initramfs_modprobe(argc, argv);
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return printf("molt %s\n", MOLT_VERSION) < 0;
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(stdout);
	if (argc == 3 && strcmp(argv[1], "--check-state") == 0 && parse_u64(argv[2], &fd) &&
		fd < 1u << 20)
		return state_check((int)fd);
	if (argc == 2 && strcmp(argv[1], "--can-end") == 0)
		return UNMOUNT_NEEDS_SUCCESSOR;
	return usage(stderr);
}

static void say_failed(const struct life *l, const struct error *e)
{
	char why[400];

	(void)snprintf(why, sizeof(why), "could not take over the state: %s", e->text);
	guard_say_failed(l->guard, why);
}

int main(int argc, char **argv)
{
	struct error e = {0};
	struct life life;
	int r;

	if (getpid() != 1)
		return run_as_program(argc, argv);
	process_default_signals();
	if (argc > 0 && initramfs_is_shutdown(argv[0])) {
		system_find_kind();
		initramfs_shutdown(argc > 1 ? argv[1] : "");
	}
	environment_take();
	life_parse(&life, argc, argv);
	crash_set_arguments(life.argc, life.argv);
	crash_set_history(life.crashes);
	crash_set_cause(life.crashed);
	crash_set_state(life.state_fd, life.notes_fd);
	crash_give_back_to(life.fallback_root);
	crash_is_away_from(life.real_root);
	if (life.end)
		crash_set_end(life.end);
	/* Not before: a life that crashed and had no state would boot, over all that runs. */
	crash_open(give_up);
	if (life.state_fd < 0 && !life.end && !life.minimal && initramfs_is_here())
		initramfs_run(life.argv);
	guard_say_loaded(life.guard);
	(void)prctl(PR_SET_NAME, "molt"); /* whatever the link was called that it was started by */
	raise_descriptor_limit();
	system_find_kind();
	if (life.end) {
		log_open_kmsg();
		if (life.crashed)
			minimal_end_processes();
		shutdown_end(life.end);
	}
	if (life.real_root >= 0 && reexec_come_back(&life, &e) < 0)
		log_error("%s", e.text);
	boot_mount_kernel_file_systems();
	crash_find_program();
	if (sys.real) {
		log_lift_kmsg_limit();
		log_open_kmsg();
	}
	if (life.minimal)
		minimal_run(NULL, life.minimal, life.shell);
	system_read_options(life.argc, life.argv);
	r = set_up(&life, &e);
	if (r == 0)
		r = life.state_fd >= 0 ? take_up(&life, &e) : begin_boot(&life, &e);
	if (r < 0 && life.state_fd >= 0) {
		log_error("cannot take up the state: %s", e.text);
		say_failed(&life, &e);
		reexec_give_back(&life);
	}
	if (r < 0)
		cannot_go_on(&e);
	if (life.state_fd >= 0) {
		begin_keeping(&life);
		inbox_hear(keep_now);
	}
	live();
}
