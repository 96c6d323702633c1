/* SPDX-License-Identifier: MIT */
/* What a guard does with a program that has failed: the fallback in its place, or nothing more. */
#include "kernel/guard_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/inject_exec.h"
#include "kernel/proc.h"
#include "kernel/trace.h"
#include "kernel/util.h"

#define FALL_BACK_USEC (10 * USEC_PER_SEC)
#define FDS_MAX 65536

static void say_loudly(const char *text)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);

	(void)dprintf(fd >= 0 ? fd : STDERR_FILENO, "%smolt: %s\n", fd >= 0 ? "<2>" : "", text);
	(void)fd_close(fd);
}

/* As long as we live and do nothing it stands still: no exit, no panic. */
void guard_hold(const struct guard_watch *w, const char *why)
{
	char text[800];

	(void)snprintf(text, sizeof(text),
		"init %s, and the one before cannot be brought back: %s. It is held stopped by process %d: everything else runs on, nothing is started or reaped any more. Save what matters and reboot (reboot -f)",
		w->why, why, (int)getpid());
	say_loudly(text);
	while (guard_collect(w) >= 0)
		trace_sleep(USEC_PER_SEC);
	_exit(1);
}

struct fd_list {
	int *fds;
	size_t n;
	int but; /* not this one */
	int also; /* this one, although it is O_CLOEXEC */
};

static int add_fd(const struct proc_fd *fd, void *userdata)
{
	struct fd_list *list = userdata;
	int flags = fcntl(fd->fd, F_GETFD);

	if (flags < 0 || fd->fd == list->but || (flags & FD_CLOEXEC && fd->fd != list->also))
		return 0;
	if (list->n == FDS_MAX)
		return -E2BIG;
	list->fds[list->n++] = fd->fd;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Our table is a copy of the one it had, and nothing has closed anything in it. */
static int list_fds(struct fd_list *list)
{
	list->fds = malloc(FDS_MAX * sizeof(int)); /* not touched, not there */
	if (!list->fds)
		return -ENOMEM;
	int r = proc_fds(getpid(), add_fd, list);
	qsort(list->fds, list->n, sizeof(int), by_number);
	return r;
}

static int fall_back(struct guard_watch *w, struct error *e)
{
	const struct guard_fallback *f = w->fallback;
	char *argv[GUARD_ARGUMENTS_MAX + 1] = {NULL}, channel[16];
	struct fd_list list = {.but = w->ours, .also = f->kept};
	int r = list_fds(&list);

	if (r < 0)
		return error_set(e, r, "cannot list its descriptors");
	(void)snprintf(channel, sizeof(channel), "%d", w->theirs);
	for (size_t i = 0; i < GUARD_ARGUMENTS_MAX && f->argv[i]; i++)
		argv[i] = i == f->why ? w->why : i == f->channel ? channel : f->argv[i];
	struct inject_exec x = {.exe = f->exe,
		.root = f->root,
		.fds = list.fds,
		.n_fds = list.n,
		.argv = argv,
		.environment = f->environment,
		.mask = w->mask};
	r = inject_exec(w->tracee, w->entering, &x, deadline_in(FALL_BACK_USEC), e);
	free(list.fds);
	return r;
}

void guard_replace(struct guard_watch *w)
{
	struct error e;

	if (w->fallen)
		guard_hold(w, "it was brought back once");
	if (fall_back(w, &e) < 0)
		guard_hold(w, e.text);
	w->fallen = true;
	w->entering = w->asked = w->runs_free = false;
	w->said = GUARD_GO_ON;
	w->number = -1;
	w->deadline_usec = USEC_INFINITY; /* late or not, there is nothing better */
}
