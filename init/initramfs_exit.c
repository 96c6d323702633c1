/* SPDX-License-Identifier: MIT */
#include "init/initramfs_exit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"

#define PLACE INITRAMFS_EXIT
#define PROGRAM PLACE "/shutdown"

static int bind_all(void)
{
	static const char *const SOURCES[] = {"/proc", "/sys", "/dev", "/run"};
	char target[64];

	/* pivot_root(2): neither root nor its parent may be shared, and the new one is a mount. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount(PLACE, PLACE, NULL, MS_BIND, NULL) < 0)
		return -errno;
	/* /run may be noexec, which a bind mount of it is then too. */
	if (mount(NULL, PLACE, NULL, MS_BIND | MS_REMOUNT, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(SOURCES); i++) {
		(void)snprintf(target, sizeof(target), PLACE "%s", SOURCES[i]);
		(void)mkdir(target, 0755);
		if (mount(SOURCES[i], target, NULL, MS_BIND | MS_REC, NULL) < 0)
			return -errno;
	}
	return 0;
}

static int pivot(void)
{
	(void)mkdir(PLACE "/oldroot", 0755);
	if (chdir(PLACE) < 0 || syscall(SYS_pivot_root, ".", "oldroot") < 0 || chroot(".") < 0 ||
		chdir("/") < 0)
		return -errno;
	return 0;
}

void initramfs_exit(const char *how)
{
	char *const argv[] = {"/shutdown", (char *)how, NULL};
	char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux", NULL};
	sigset_t none;
	int r;

	if (access(PROGRAM, X_OK) < 0)
		return;
	log_notice("going back to the initramfs, which lets go of what the root lies on");
	r = bind_all();
	if (r == 0)
		r = pivot();
	if (r < 0) {
		log_error("cannot pivot to %s: %s", PLACE, strerror(-r));
		return;
	}
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* The old root is held by nothing of ours. */
	(void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	(void)execve("/shutdown", argv, env);
	log_error("cannot execute %s: %s", PROGRAM, strerror(errno));
}
