/* SPDX-License-Identifier: MIT */
#include "init/stages.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init/devices.h"
#include "init/fstab.h"
#include "init/keep.h"
#include "init/late_mounts.h"
#include "init/records.h"
#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "upgrade/carry.h"
#include "upgrade/grafts.h"
#include "upgrade/upgrade.h"

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

static void set_host(void)
{
	set_hostname();
	bring_up_loopback();
}

static void prepare_grafts(void)
{
	/* One that was forked just before a crash, and is not known therefore, may be at work
	 * still, or done: what is mounted is left alone, and noted there. */
	if (grafts_fd < 0)
		grafts_fd = memfd_create("molt-grafts", MFD_CLOEXEC);
	keep_now(); /* a life that hears of the mounter has to know that descriptor */
}

/* The carried files of a read-only root come last: the state directory is on one of the mounts. */
static int mount_and_graft(void)
{
	int failed = fstab_mount_all();

	if (grafts_fd >= 0)
		carry_at_boot(sys.conf->carry, sys.conf->carry_directory, grafts_fd);
	return failed;
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

/* Nor is anything mounted later where nothing was to be mounted at all. */
static void take_late(void)
{
	late_mounts_take(!stage_is_skipped(&STAGES[stage_find("mount")]));
}

/* A file server that does not answer would keep the boot waiting for ever. */
const struct stage STAGES[] = {
	{.name = "host", .what = "naming the host", .here = set_host},
	/* Before anything compares times with it: file system checks do. */
	{.name = "clock",
		.what = "setting the clock",
		.child = stage_set_clock,
		.limit_usec = 10 * USEC_PER_SEC},
	{.name = "modules",
		.what = "loading the modules of modules-load.d",
		.child = stage_load_modules,
		.limit_usec = 60 * USEC_PER_SEC},
	{.name = "sysctl",
		.what = "setting the kernel's parameters of sysctl.d",
		.child = stage_set_sysctls,
		.limit_usec = 30 * USEC_PER_SEC},
	/* The root first and alone, and before anything is written to it. Hours are fine for a
	 * check. */
	{.name = "check-root",
		.what = "checking the root file system",
		.child = stage_check_root,
		.limit_usec = USEC_INFINITY,
		.must = true},
	{.name = "root",
		.what = "mounting the root as /etc/fstab says",
		.child = fstab_remount_root,
		.limit_usec = 60 * USEC_PER_SEC,
		.must = true},
	/* Before a manager of devices is there, which gives them to their groups. */
	{.name = "nodes",
		.what = "making the device nodes of modules that are not loaded yet",
		.child = stage_make_nodes,
		.limit_usec = 10 * USEC_PER_SEC},
	{.name = "devices",
		.what = "bringing up the services of devices",
		.services = devices_services,
		.limit = devices_limit},
	/* No other stage has to: what is not there by then is not there. */
	{.name = "await",
		.what = "waiting for the devices of /etc/fstab",
		.here = late_mounts_prepare,
		.child = fstab_await_devices,
		.after = take_late,
		.limit_usec = USEC_INFINITY,
		.tells = true},
	{.name = "check",
		.what = "checking the file systems of /etc/fstab",
		.child = stage_check_others,
		.limit_usec = USEC_INFINITY,
		.must = true},
	{.name = "mount",
		.what = "mounting the local file systems of /etc/fstab",
		.here = prepare_grafts,
		.child = mount_and_graft,
		.after = take_grafts,
		.limit_usec = 180 * USEC_PER_SEC,
		.must = true},
	{.name = "swap", /* a machine runs without; files may be on what was mounted just now */
		.what = "switching swap on",
		.child = stage_swap_on,
		.limit_usec = 60 * USEC_PER_SEC},
	{.name = "stamp",
		.what = "comparing the clock with the last shutdown",
		.child = stage_advance_clock,
		.limit_usec = 10 * USEC_PER_SEC},
	{.name = "seed", /* before anything random is asked for */
		.what = "seeding the kernel's random numbers",
		.child = stage_seed,
		.limit_usec = 30 * USEC_PER_SEC},
	/* After the carried files, of which it may be one, and where / can be written to by now. */
	{.name = "machine-id",
		.what = "giving the machine an ID",
		.child = stage_set_machine_id,
		.limit_usec = 30 * USEC_PER_SEC},
	{.name = "sysusers",
		.what = "making the users of sysusers.d",
		.child = stage_make_users,
		.limit_usec = 60 * USEC_PER_SEC},
	{.name = "tmpfiles",
		.what = "making the files of tmpfiles.d",
		.child = stage_make_files,
		.limit_usec = 120 * USEC_PER_SEC},
	{.name = "utmp",
		.what = "noting the boot in utmp",
		.child = records_note_boot,
		.limit_usec = 20 * USEC_PER_SEC},
};
const size_t N_STAGES = ARRAY_SIZE(STAGES);

bool stage_is_skipped(const struct stage *s)
{
	char text[512] = "", *state = NULL;

	if (!boot_option("molt.skip", text, sizeof(text)))
		return false;
	for (char *word = strtok_r(text, ",", &state); word; word = strtok_r(NULL, ",", &state))
		if (strcmp(word, s->name) == 0)
			return true;
	return false;
}

void stages_before_unmount(void)
{
	if (!sys.real)
		return;
	stage_save_seed();
	stage_save_clock();
}

size_t stage_find(const char *name)
{
	size_t i = 0;

	while (i < N_STAGES && strcmp(STAGES[i].name, name) != 0)
		i++;
	return i;
}

void stages_save(struct record_writer *w)
{
	record_int(w, "grafts_fd", grafts_fd);
	late_mounts_save_stage(w);
	record_text(w, "arguments", boot_arguments());
}

void stages_load(const struct record *r)
{
	const char *arguments = record_get(r, "arguments");

	grafts_fd = identity_take((int)record_get_int(r, "grafts_fd", -1));
	late_mounts_load_stage(r);
	if (arguments)
		boot_set_arguments(arguments);
}

void stages_each_fd(int (*visit)(int fd))
{
	if (grafts_fd >= 0)
		(void)visit(grafts_fd);
	late_mounts_each_fd(visit);
}
