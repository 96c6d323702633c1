/* SPDX-License-Identifier: MIT */
#include "init/unmount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <unistd.h>

#include "init/detach.h"
#include "init/reexec.h"
#include "init/stages.h"
#include "init/system.h"
#include "kernel/log.h"
#include "kernel/mounts.h"
#include "kernel/util.h"

/* Devices on devices, that deep. */
#define ROUNDS_MAX 20

/* What the kernel makes by itself: nothing of it is on a disk, and the log goes through /dev and
 * /run. */
static bool is_api(const struct mount *m)
{
	static const char *const TARGETS[] = {"/proc", "/sys", "/dev", "/run"};

	for (size_t i = 0; i < ARRAY_SIZE(TARGETS); i++) {
		size_t n = strlen(TARGETS[i]);
		bool below = strncmp(m->target, TARGETS[i], n) == 0 &&
			     (m->target[n] == '\0' || m->target[n] == '/');
		if (below && (strcmp(m->fstype, "tmpfs") == 0 || m->source[0] != '/'))
			return true;
	}
	return false;
}

static void swap_off(void)
{
	char text[4096], *state = NULL;

	if (!sys.real || file_read(AT_FDCWD, "/proc/swaps", text, sizeof(text)) <= 0)
		return;
	(void)strtok_r(text, "\n", &state); /* the heading */
	for (char *line = strtok_r(NULL, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		line[strcspn(line, " \t")] = '\0';
		if (swapoff(line) < 0)
			log_warning("cannot switch off swap on %s: %s", line, strerror(errno));
	}
}

bool unmount_leaves(const struct mount *m)
{
	return strcmp(m->target, "/") == 0 || is_api(m);
}

/* Deepest first: mountinfo lists a mount after what it is mounted on. */
unsigned unmount_round(unsigned *ret_left)
{
	struct mount_table t = {0};
	struct error e;
	unsigned done = 0;

	*ret_left = 0;
	if (mount_table_read(&t, &e) < 0) {
		log_error("%s", e.text);
		return 0;
	}
	for (size_t i = t.count; i-- > 0;) {
		const struct mount *m = &t.mounts[i];
		if (unmount_leaves(m))
			continue;
		if (umount2(m->target, UMOUNT_NOFOLLOW) == 0)
			done++;
		else
			(*ret_left)++;
	}
	mount_table_free(&t);
	return done;
}

unsigned unmount_read_only(bool last)
{
	struct mount_table t = {0};
	struct error e;
	unsigned failed = 0;

	if (mount_table_read(&t, &e) < 0)
		return 1;
	for (size_t i = t.count; i-- > 0;) {
		const struct mount *m = &t.mounts[i];
		if (is_api(m) || m->source[0] != '/')
			continue;
		if (mount(NULL, m->target, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0 &&
			errno != EROFS) {
			log_line(last ? LEVEL_ERROR : LEVEL_INFO, "cannot make %s read-only%s: %s",
				m->target, last ? "" : " yet", strerror(errno));
			failed++;
		}
	}
	mount_table_free(&t);
	return failed;
}

void unmount_everything(void)
{
	unsigned left, failed, rounds = 0;

	stages_before_unmount();
	sync();
	swap_off();
	/* What lies on what was taken apart may be unmounted then, and so on. */
	do {
		while (unmount_round(&left) > 0 && left > 0)
			;
	} while (sys.real && rounds++ < ROUNDS_MAX && detach_devices() > 0);
	/* A namespace shares its file systems with the world outside: only the mounts are its own
	 * to end. */
	failed = sys.real ? unmount_read_only(false) : 0;
	sync();
	/* Asks it for UNMOUNT_NEEDS_SUCCESSOR; an init that does not know the question fails. */
	if (failed)
		(void)execl(INIT_PATH, "init", "--can-end", (char *)NULL);
	/* There is none. Once more, for the log: now it is an error. */
	if (failed)
		failed = unmount_read_only(true);
	_exit(failed ? 1 : 0);
}
