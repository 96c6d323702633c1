/* SPDX-License-Identifier: MIT */
#include "services/rotate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/process.h"
#include "kernel/util.h"
#include "services/catalog.h"
#include "services/output.h"

#define INTERVAL_USEC (10 * USEC_PER_SEC)

static struct loop_timer timer;
static struct process child = {.source.fd = -1};

/* Copies what there is from *at on, and moves it on. 0 or negative errno. */
static int copy_rest(int from, int to, off_t *at)
{
	char buf[65536];

	for (;;) {
		ssize_t n = pread(from, buf, sizeof(buf), *at);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		ssize_t written = pwrite(to, buf, (size_t)n, *at);
		if (written <= 0)
			return written < 0 ? -errno : -EIO;
		*at += written;
	}
}

/* Only whole blocks can be cut off, and not all of the file: fallocate(2). What is left stays in
 * the log, and is not in the copy: a line may begin there and end here. */
static bool cut_front(int log, int copy, off_t copied, blksize_t block)
{
	off_t whole = copied / block * block;

	if (whole == copied)
		whole -= block;
	return whole > 0 && fallocate(log, FALLOC_FL_COLLAPSE_RANGE, 0, whole) == 0 &&
	       ftruncate(copy, whole) == 0;
}

static int empty(int log, int copy, off_t *copied)
{
	int r = copy_rest(log, copy, copied);

	if (r < 0)
		return r;
	return ftruncate(log, 0) < 0 ? -errno : 0;
}

static int move_away(int log, const char *path, blksize_t block)
{
	char to[540], temporary[545];
	off_t copied = 0;

	(void)snprintf(to, sizeof(to), "%.510s.1", path);
	(void)snprintf(temporary, sizeof(temporary), "%s.new", to);
	CLEANUP_FD int copy = open(
		temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
	if (copy < 0)
		return -errno;
	int r = copy_rest(log, copy, &copied);
	if (r == 0 && !cut_front(log, copy, copied, block))
		r = empty(log, copy, &copied);
	if (r == 0 && rename(temporary, to) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(temporary);
	return r;
}

int rotate_file(const char *path, uint64_t max_bytes)
{
	struct stat st;
	CLEANUP_FD int log = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);

	if (log < 0 || fstat(log, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size <= max_bytes)
		return 0;
	int r = move_away(log, path, st.st_blksize > 0 ? st.st_blksize : 4096);
	return r < 0 ? r : 1;
}

static void __attribute__((noreturn)) rotate_all(void)
{
	char path[600];

	for (const struct service *s = catalog_first(); s; s = s->next) {
		if (!s->current)
			continue;
		output_find(path, sizeof(path), s->unit->name);
		(void)rotate_file(path, world.log_max_bytes); /* once more in a while */
	}
	_exit(0);
}

static bool something_runs(void)
{
	for (const struct service *s = catalog_first(); s; s = s->next)
		if (s->current)
			return true;
	return false;
}

static void timer_expired(struct loop_timer *t)
{
	int pidfd;

	timer_set(t, deadline_in(INTERVAL_USEC));
	/* The last one may hang on a file system that does not answer. */
	if (child.pid || !something_runs())
		return;
	pid_t pid = process_fork(-1, &pidfd);
	if (pid == 0)
		rotate_all();
	if (pid > 0)
		(void)process_watch(&child, pid, pidfd); /* unwatched, it is buried all the same */
}

void rotate_begin(void)
{
	timer.expired = timer_expired;
	timer_set(&timer, deadline_in(INTERVAL_USEC));
}
