/* SPDX-License-Identifier: MIT */
#include "init/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init/fstab.h"
#include "init/keep.h"
#include "init/rescue.h"
#include "init/system.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/carry.h"
#include "upgrade/grafts.h"
#include "upgrade/upgrade.h"

/* A file server that does not answer would keep the boot waiting for ever. */
#define MOUNT_USEC (180 * USEC_PER_SEC)

/* What is being waited for: the shell of emergency mode, the mounter, the shell that stands in for
 * it, the one of single-user mode. */
enum step { STEP_NONE, STEP_EMERGENCY, STEP_MOUNT, STEP_REPAIR, STEP_SINGLE, N_STEPS };

static const char *const WORDS[N_STEPS] = {
	[STEP_NONE] = "",
	[STEP_EMERGENCY] = "emergency",
	[STEP_MOUNT] = "mount",
	[STEP_REPAIR] = "repair",
	[STEP_SINGLE] = "single",
};

static enum step step;
static struct process mounter;
static struct loop_timer mounter_timer;
static bool mounter_late;
static int grafts_fd = -1; /* where the mounter notes what it has carried */
/* of the life before, until boot_resume() */
static pid_t mounter_before, shell_before;
static uint64_t mounter_deadline_usec;

static void mount_local(void);
static void start_services_unless_single(void);

static void set_hostname(void)
{
	char text[256];

	if (sys.conf->hostname) {
		(void)strncpy(text, sys.conf->hostname, sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
	} else if (file_read(AT_FDCWD, "/etc/hostname", text, sizeof(text)) <= 0) {
		return;
	}
	text[strcspn(text, " \t\n")] = '\0';
	if (text[0] && sethostname(text, strlen(text)) < 0)
		log_warning("cannot set the host name %s: %s", text, strerror(errno));
}

static void bring_up_loopback(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		log_warning("cannot bring up the loopback interface: %s", strerror(errno));
}

static void start_services(void)
{
	struct error e;

	if (sys.state == SYSTEM_STOPPING)
		return;
	for (char **name = sys.conf->services; *name; name++)
		if (set_start(*name, &e) < 0)
			log_error("%s", e.text);
	sys.state = SYSTEM_RUNNING;
	log_notice("booted");
	/* A life that knew only some of what is started from here on would start it twice. */
	keep_now();
}

static void shell_ended(void)
{
	if (step == STEP_EMERGENCY)
		mount_local();
	else if (step == STEP_REPAIR)
		start_services_unless_single();
	else
		start_services();
}

static void offer_shell(enum step instead, const char *why)
{
	step = instead;
	rescue_shell(why, WORDS[step], shell_ended);
}

static void start_services_unless_single(void)
{
	if (sys.state == SYSTEM_STOPPING)
		return;
	if (sys.single)
		offer_shell(STEP_SINGLE, "single-user mode, as the kernel command line says");
	else
		start_services();
}

/* The carried files of a read-only root come last: the state directory is on one of the mounts. */
static void __attribute__((noreturn)) mount_and_graft(void)
{
	int failed = fstab_mount_all();

	if (grafts_fd >= 0)
		carry_at_boot(sys.conf->carry, sys.conf->carry_directory, grafts_fd);
	_exit(failed);
}

static void take_grafts(void)
{
	/* The name of the host may be one of them. */
	if (grafts_fd >= 0 && grafts_read(upgrade_generation(), grafts_fd) > 0) {
		set_hostname();
		keep_now(); /* from here on nobody else knows of them */
	}
	grafts_fd = fd_close(grafts_fd);
}

static void mounter_exited(struct process *p, const struct process_exit *ended)
{
	(void)p;
	timer_cancel(&mounter_timer);
	take_grafts();
	/* Late: the shell that stands in for it goes on with the boot. */
	if (mounter_late)
		log_notice("mounting the local file systems has ended after all");
	else if (!ended->known)
		mount_local(); /* of a life before: what is mounted is left alone */
	else if (process_exit_clean(ended))
		start_services_unless_single();
	else
		offer_shell(
			STEP_REPAIR, "not all local file systems of /etc/fstab could be mounted");
}

static void mounter_timed_out(struct loop_timer *t)
{
	(void)t;
	mounter_late = true;
	offer_shell(STEP_REPAIR, "mounting the local file systems takes too long");
}

static void mount_local(void)
{
	int pidfd;

	if (sys.state == SYSTEM_STOPPING)
		return;
	step = STEP_MOUNT;
	mounter_timer.expired = mounter_timed_out;
	timer_set(&mounter_timer, deadline_in(MOUNT_USEC));
	/* One that was forked just before a crash, and is not known therefore, may be at work
	 * still, or done: what is mounted is left alone, and noted there. */
	if (grafts_fd < 0)
		grafts_fd = memfd_create("molt-grafts", MFD_CLOEXEC);
	keep_now(); /* a life that hears of the mounter has to know that descriptor */
	pid_t pid = process_fork(-1, &pidfd);

	if (pid == 0)
		mount_and_graft();
	if (pid > 0)
		keep_note_child(WORDS[step], pid);
	mounter.exited = mounter_exited;
	if (pid < 0 || process_watch(&mounter, pid, pidfd) < 0) {
		timer_cancel(&mounter_timer);
		offer_shell(STEP_REPAIR, "cannot fork to mount the local file systems");
	}
}

void boot_begin(void)
{
	set_hostname();
	bring_up_loopback();
	if (sys.emergency)
		offer_shell(STEP_EMERGENCY, "emergency mode, as the kernel command line says");
	else
		mount_local();
}

/* State */

void boot_save(struct record_writer *w)
{
	if (sys.state != SYSTEM_BOOTING)
		return;
	record_begin(w, "boot", "");
	record_text(w, "step", WORDS[step]);
	record_bool(w, "single", sys.single);
	record_bool(w, "emergency", sys.emergency);
	record_int(w, "mounter_pid", mounter.pid);
	record_int(w, "mounter_deadline_usec", (int64_t)mounter_timer.deadline_usec);
	record_int(w, "grafts_fd", grafts_fd);
	record_int(w, "shell_pid", rescue_pid());
	record_end(w);
}

static enum step step_of(const char *word)
{
	for (unsigned i = 0; word && i < N_STEPS; i++)
		if (strcmp(word, WORDS[i]) == 0)
			return (enum step)i;
	return STEP_NONE;
}

void boot_load(const struct record *r)
{
	step = step_of(record_get(r, "step"));
	sys.single = record_get_bool(r, "single", false);
	sys.emergency = record_get_bool(r, "emergency", false);
	mounter_before = (pid_t)record_get_int(r, "mounter_pid", 0);
	mounter_deadline_usec = (uint64_t)record_get_int(r, "mounter_deadline_usec", 0);
	grafts_fd = identity_take((int)record_get_int(r, "grafts_fd", -1));
	shell_before = (pid_t)record_get_int(r, "shell_pid", 0);
}

void boot_each_fd(int (*visit)(int fd))
{
	if (grafts_fd >= 0)
		(void)visit(grafts_fd);
}

void boot_load_child(const struct record *r)
{
	enum step s = step_of(r->id);
	pid_t pid = (pid_t)record_get_int(r, "pid", 0);

	if (s == STEP_NONE || sys.state != SYSTEM_BOOTING)
		return;
	step = s;
	if (s != STEP_MOUNT) {
		shell_before = pid;
		return;
	}
	mounter_before = pid;
	mounter_deadline_usec = deadline_in(MOUNT_USEC);
}

static void resume_mounter(void)
{
	mounter_late = step == STEP_REPAIR && mounter_before;
	mounter.exited = mounter_exited;
	if (!mounter_before || process_adopt(&mounter, mounter_before, -1, true) < 0) {
		if (step == STEP_MOUNT)
			mount_local();
		return;
	}
	mounter_timer.expired = mounter_timed_out;
	if (!mounter_late)
		timer_set(&mounter_timer, mounter_deadline_usec);
}

void boot_resume(void)
{
	if (sys.state != SYSTEM_BOOTING)
		return;
	log_notice("going on with the boot");
	if (step == STEP_NONE) {
		boot_begin();
		return;
	}
	resume_mounter();
	if (step != STEP_MOUNT && !rescue_adopt(shell_before, shell_ended))
		shell_ended();
}
