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
#include "init/rescue.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/set.h"
#include "upgrade/carry.h"
#include "upgrade/grafts.h"
#include "upgrade/upgrade.h"

/* A file server that does not answer would keep the boot waiting for ever. */
#define MOUNT_USEC (180 * USEC_PER_SEC)

static struct process mounter;
static struct loop_timer mounter_timer;
static bool mounter_late;
static int grafts_fd = -1; /* where the mounter notes what it has carried */

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
}

static void start_services_unless_single(void)
{
	if (sys.state == SYSTEM_STOPPING)
		return;
	if (sys.single)
		rescue_shell("single-user mode, as the kernel command line says", start_services);
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
	if (grafts_fd >= 0 && grafts_read(upgrade_generation(), grafts_fd) > 0)
		set_hostname();
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
	else if (process_exit_clean(ended))
		start_services_unless_single();
	else
		rescue_shell("not all local file systems of /etc/fstab could be mounted",
			start_services_unless_single);
}

static void mounter_timed_out(struct loop_timer *t)
{
	(void)t;
	mounter_late = true;
	rescue_shell(
		"mounting the local file systems takes too long", start_services_unless_single);
}

static void mount_local(void)
{
	int pidfd;

	if (sys.state == SYSTEM_STOPPING)
		return;
	mounter_timer.expired = mounter_timed_out;
	timer_set(&mounter_timer, deadline_in(MOUNT_USEC));
	grafts_fd = memfd_create("molt-grafts", MFD_CLOEXEC);
	pid_t pid = process_fork(-1, &pidfd);

	if (pid == 0)
		mount_and_graft();
	mounter.exited = mounter_exited;
	if (pid < 0 || process_watch(&mounter, pid, pidfd) < 0) {
		timer_cancel(&mounter_timer);
		rescue_shell("cannot fork to mount the local file systems",
			start_services_unless_single);
	}
}

void boot_begin(void)
{
	set_hostname();
	bring_up_loopback();
	if (sys.emergency)
		rescue_shell("emergency mode, as the kernel command line says", mount_local);
	else
		mount_local();
}
