/* SPDX-License-Identifier: MIT */
#include "services/fdstore.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/log.h"
#include "kernel/util.h"

static unsigned total; /* of all services */

/* PID 1 needs descriptors to work with, whatever its services give it to keep. */
static bool has_room(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && total < limit.rlim_cur / 2;
}

static void drop(struct service *s, struct stored_fd **link)
{
	struct stored_fd *f = *link;

	*link = f->next;
	loop_remove(&f->source);
	(void)fd_close(f->fd);
	free(f);
	s->n_stored--;
	total--;
}

static void hung_up(struct loop_source *source, uint32_t events)
{
	struct stored_fd *f = CONTAINER_OF(source, struct stored_fd, source);
	struct service *s = f->service;

	(void)events;
	for (struct stored_fd **link = &s->stored; *link; link = &(*link)->next) {
		if (*link != f)
			continue;
		log_debug("%s: the stored descriptor \"%s\" has hung up and is dropped",
			s->unit->name, f->name);
		drop(s, link);
		return;
	}
}

/* kcmp(2): whether two descriptors are one open file. */
static bool is_same(int a, int b)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
}

static bool is_there(const struct service *s, int fd)
{
	for (const struct stored_fd *f = s->stored; f; f = f->next)
		if (is_same(f->fd, fd))
			return true;
	return false;
}

int fdstore_adopt(struct service *s, const char *name, bool poll, int fd)
{
	struct stored_fd **end = &s->stored;
	struct stored_fd *f = calloc(1, sizeof(*f));
	int r = 0;

	if (!f) {
		(void)fd_close(fd);
		return -ENOMEM;
	}
	*f = (struct stored_fd){.service = s, .fd = fd, .poll = poll, .source.fd = -1};
	(void)snprintf(f->name, sizeof(f->name), "%s", name);
	f->source.ready = hung_up;
	if (poll)
		r = loop_add(&f->source, fd, EPOLLHUP | EPOLLERR);
	/* epoll_ctl(2): a file of a disk cannot be waited for, and never hangs up. */
	if (r < 0 && r != -EPERM) {
		(void)fd_close(fd);
		free(f);
		return r;
	}
	while (*end)
		end = &(*end)->next;
	*end = f;
	s->n_stored++;
	total++;
	return 0;
}

int fdstore_add(struct service *s, const char *name, bool poll, int fd)
{
	int r = 0;

	if (!unit_fd_name_is_valid(name))
		r = -EINVAL;
	else if (is_there(s, fd))
		r = 1;
	else if (s->n_stored >= s->unit->fd_store_max)
		r = -ENOSPC;
	else if (!has_room())
		r = -EMFILE;
	if (r != 0) {
		(void)fd_close(fd);
		return r < 0 ? r : 0;
	}
	return fdstore_adopt(s, name, poll, fd);
}

void fdstore_remove(struct service *s, const char *name)
{
	struct stored_fd **link = &s->stored;

	while (*link) {
		if (strcmp((*link)->name, name) == 0)
			drop(s, link);
		else
			link = &(*link)->next;
	}
}

void fdstore_close(struct service *s)
{
	while (s->stored)
		drop(s, &s->stored);
}

void fdstore_stopped(struct service *s, bool starts_again)
{
	/* Between two images it may yet be started again, by a rollback. */
	bool rolling = s->roll.state == ROLL_SETTLING || s->roll.state == ROLL_ASKED;

	switch (s->unit->fd_store_preserve) {
	case FD_STORE_YES:
		return;
	case FD_STORE_RESTART:
		if (!starts_again && !rolling)
			fdstore_close(s);
		return;
	case FD_STORE_NO:
		fdstore_close(s);
		return;
	}
}
