/* SPDX-License-Identifier: MIT */
#include "conf/fsck.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "init/fstab.h"
#include "init/stages/children.h"
#include "init/stages/tools.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/util.h"

#define MAX_ARGUMENTS 12
#define LATE_LOG "/run/molt/fsck.log"

static void read_wish(struct fsck_wish *ret)
{
	char mode[32], repair[32];
	bool has_mode = boot_option("fsck.mode", mode, sizeof(mode));
	bool has_repair = boot_option("fsck.repair", repair, sizeof(repair));

	if (!fsck_wish_parse(has_mode ? mode : NULL, has_repair ? repair : NULL, ret))
		log_warning(
			"fsck.mode= is auto, force or skip, fsck.repair= is preen, yes or no: what is neither is not used");
}

static int reboot_at_once(void)
{
	log_error("the file system that the system runs from has been repaired: rebooting at once");
	/* Not so much as a sync: the kernel's older view of it must not be written over the repair.
	 * Nothing else is mounted yet that could be written to. */
	if (sys.real)
		(void)reboot(RB_AUTOBOOT);
	return 1;
}

static int judge(int code, const char *what)
{
	switch (fsck_judge(code)) {
	case FSCK_CLEAN:
		return 0;
	case FSCK_CORRECTED:
		log_notice("%s had errors, which fsck has corrected", what);
		return 0;
	case FSCK_REBOOT:
		return reboot_at_once();
	case FSCK_FAILED:
		break;
	}
	log_error("fsck of %s ended with exit code %d: repair it by hand, then `exit`", what, code);
	return 1;
}

/* Its exit code, 0 where nothing is to be checked. */
static int run_fsck(char *const which[], const char *what, bool boots)
{
	char *argv[MAX_ARGUMENTS + 1];
	struct fsck_wish wish;
	const char *path = tool_find("fsck");
	size_t n = 0;

	read_wish(&wish);
	if (wish.skip || !path) {
		log_notice("%s not checked: %s", what,
			path ? "fsck.mode=skip" : "there is no fsck in this image");
		return 0;
	}
	log_notice("checking %s%s", what, wish.force ? ", as fsck.mode=force says" : "");
	argv[n++] = (char *)"fsck";
	argv[n++] = (char *)"-T";
	if (boots && isatty(STDOUT_FILENO))
		argv[n++] = (char *)"-C0"; /* a large disk may take hours: how far it is */
	while (*which && n < MAX_ARGUMENTS - 2)
		argv[n++] = *which++;
	argv[n++] = (char *)wish.repair;
	if (wish.force)
		argv[n++] = (char *)"-f";
	argv[n] = NULL;
	return tool_run(path, argv);
}

static int check(char *const which[], const char *what)
{
	return judge(run_fsck(which, what, true), what);
}

int stage_check_root(void)
{
	static char *const ROOT[] = {(char *)"/", NULL};

	if (!fstab_checks_root())
		return 0;
	if (access(fsck_note_of("/"), F_OK) == 0) {
		log_notice("the root file system was checked in the initramfs");
		return 0;
	}
	return check(ROOT, "the root file system");
}

int stage_check_others(void)
{
	/* In the order of their numbers, and at the same time where that is the same and the disks
	 * are not: fsck knows how. Not what is mounted, nor what is to be mounted later. */
	static char *const OTHERS[] = {(char *)"-A", (char *)"-R", (char *)"-M", (char *)"-t",
		(char *)"noopts=_netdev,noopts=noauto", NULL};

	return fstab_checks_others() ? check(OTHERS, "the file systems of /etc/fstab") : 0;
}

int stage_swap_on(void)
{
	return sys.real ? fstab_swap_on() : 0; /* memory is the whole machine's */
}

/* Where somebody may be at work on the console by now. */
static void speak_to_file(void)
{
	int fd = open(LATE_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (fd < 0)
		return;
	(void)dup2(fd, STDOUT_FILENO);
	(void)dup2(fd, STDERR_FILENO);
	(void)fd_close(fd);
}

int stage_check_late(const char *device)
{
	char *const which[] = {(char *)device, NULL};

	speak_to_file();
	int code = run_fsck(which, device, false);

	/* Nobody is at the console, and a machine that runs is not rebooted for a disk of many. */
	if (fsck_judge(code) == FSCK_FAILED) {
		log_error(
			"fsck of %s ended with exit code %d: it is not mounted (%s has what fsck said)",
			device, code, LATE_LOG);
		return 1;
	}
	return 0;
}
