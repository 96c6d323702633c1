/* SPDX-License-Identifier: MIT */
#include "upgrade/settle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"

#define PENDING_MAX 4096
#define TRIES 5
#define RETRY_USEC (20 * USEC_PER_MSEC)

static struct {
	int flag;
	bool freeze;
} pending[PENDING_MAX];
static unsigned count;
static struct loop_timer timer;

int settle_try(int flag_fd, bool freeze)
{
	int r = -EIO;

	for (unsigned i = 0; i < TRIES && r < 0 && r != -ENODEV; i++) {
		ssize_t n = pwrite(flag_fd, freeze ? "1" : "0", 1, 0);
		r = n == 1 ? 0 : n < 0 ? -errno : -EIO;
	}
	return r;
}

static bool is_settled(int r)
{
	return r == 0 || r == -ENODEV;
}

static void try_again(struct loop_timer *t)
{
	unsigned left = 0;

	(void)t;
	for (unsigned i = 0; i < count; i++) {
		if (is_settled(settle_try(pending[i].flag, pending[i].freeze)))
			(void)fd_close(pending[i].flag);
		else
			pending[left++] = pending[i];
	}
	count = left;
	if (count)
		timer_set(&timer, deadline_in(RETRY_USEC));
	else
		log_notice("the last cgroup is as it was before");
}

static void add(int flag, bool freeze)
{
	pending[count].flag = flag;
	pending[count++].freeze = freeze;
	timer.expired = try_again;
	timer_set(&timer, deadline_in(RETRY_USEC));
}

void settle_cgroup(int flag_fd, bool freeze, const char *name)
{
	int r = settle_try(flag_fd, freeze), copy = -1;

	if (is_settled(r))
		return;
	log_error("cannot %s the cgroup %s: %s; tried again until it works",
		freeze ? "freeze" : "thaw", name, strerror(-r));
	if (count < PENDING_MAX)
		copy = fcntl(flag_fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0) {
		log_error("%s stays as it is: too many cgroups resist", name);
		return;
	}
	add(copy, freeze);
}

bool settle_is_done(void)
{
	return count == 0;
}

void settle_save(struct record_writer *w)
{
	for (unsigned i = 0; i < count; i++)
		record_format(w, "settle", "%d %d", pending[i].flag, pending[i].freeze);
}

void settle_load(const struct record *r)
{
	const char *text;

	for (size_t i = 0; count < PENDING_MAX && (text = record_get_nth(r, "settle", i)); i++) {
		int flag, freeze;
		struct statfs fs;
		/* After a crash the number may be another file's by now. */
		if (sscanf(text, "%d %d", &flag, &freeze) == 2 && fstatfs(flag, &fs) == 0 &&
			fs.f_type == CGROUP2_SUPER_MAGIC)
			add(flag, freeze);
	}
}

void settle_each_fd(int (*visit)(int fd))
{
	for (unsigned i = 0; i < count; i++)
		(void)visit(pending[i].flag);
}
