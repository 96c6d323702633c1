/* SPDX-License-Identifier: MIT */
#include "upgrade/thawer.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/process.h"
#include "kernel/util.h"

/* Which cgroups, shared with the child: names one after the other, each with its NUL. */
struct notes {
	_Atomic size_t used;
	_Atomic int overflow; /* too many: then all are thawed */
	char text[(256 * 1024) - 32];
};

static struct notes *notes;
static int leash = -1; /* closed: the child ends */

static int thaw_one(int cgroup, const char *path, void *userdata)
{
	(void)path;
	(void)userdata;
	(void)cgroup_freeze(cgroup, false);
	return 0;
}

static void thaw_noted(int tree)
{
	size_t used = notes ? atomic_load(&notes->used) : 0;

	if (notes && atomic_load(&notes->overflow))
		(void)cgroup_walk(tree, thaw_one, NULL);
	for (size_t at = 0; at < used; at += strlen(notes->text + at) + 1) {
		CLEANUP_FD int fd =
			openat(tree, notes->text + at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			(void)cgroup_freeze(fd, false);
	}
}

static void __attribute__((noreturn)) watch(int tree, int end, uint64_t usec)
{
	struct pollfd p = {.fd = end, .events = POLLIN};
	uint64_t msec = usec / USEC_PER_MSEC;

	if (poll(&p, 1, msec > INT_MAX ? INT_MAX : (int)msec) == 0) {
		(void)cgroup_freeze(tree, false);
		thaw_noted(tree);
	}
	_exit(0);
}

static void forget_notes(void)
{
	if (notes)
		(void)munmap(notes, sizeof(*notes));
	notes = NULL;
}

void thawer_start(int tree, uint64_t usec)
{
	int ends[2], pidfd;

	thawer_stop();
	void *map = mmap(
		NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	notes = map == MAP_FAILED ? NULL : map;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0) {
		(void)fd_close(ends[1]);
		watch(tree, ends[0], usec);
	}
	(void)fd_close(ends[0]);
	if (pid < 0) {
		(void)fd_close(ends[1]);
		return;
	}
	(void)fd_close(pidfd);
	leash = ends[1];
}

void thawer_note(const char *path)
{
	size_t length = strlen(path) + 1;

	if (!notes)
		return;
	size_t used = atomic_load(&notes->used);
	if (used + length > sizeof(notes->text)) {
		atomic_store(&notes->overflow, 1);
		return;
	}
	memcpy(notes->text + used, path, length);
	atomic_store(&notes->used, used + length);
}

void thawer_stop(void)
{
	leash = fd_close(leash);
	forget_notes();
}
