/* SPDX-License-Identifier: MIT */
#include "services/remains.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "kernel/cgroup.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/util.h"

/* Each costs a descriptor; whoever leaves more behind leaves more processes. */
#define REMAINS_MAX 256

static struct remains {
	struct loop_source events;
	struct remains *next;
	int base;
	char name[];
} * first;
static unsigned count;

static void drop(struct remains *r)
{
	struct remains **link = &first;
	int fd = r->events.fd;

	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	count--;
	loop_remove(&r->events);
	(void)fd_close(fd);
	free(r);
}

static void changed(struct loop_source *s, uint32_t events)
{
	struct remains *r = CONTAINER_OF(s, struct remains, events);
	bool populated;

	(void)events;
	/* It cannot be read any more once it was removed. */
	if (cgroup_events(s->fd, &populated, NULL) == 0 && populated)
		return;
	int result = cgroup_remove(r->base, r->name);
	if (result < 0)
		log_debug("cannot remove the cgroup %s: %s", r->name, strerror(-result));
	drop(r);
}

static bool is_watched(int base, const char *name)
{
	for (const struct remains *r = first; r; r = r->next)
		if (r->base == base && strcmp(r->name, name) == 0)
			return true;
	return false;
}

static int open_events(int base, const char *name)
{
	CLEANUP_FD int cgroup = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return cgroup < 0 ? -errno : cgroup_open_events(cgroup);
}

void remains_watch(int base, const char *name)
{
	size_t size = strlen(name) + 1;

	if (count == REMAINS_MAX || is_watched(base, name))
		return;
	CLEANUP_FD int fd = open_events(base, name);
	struct remains *r = fd < 0 ? NULL : malloc(sizeof(*r) + size);
	if (!r)
		return;
	*r = (struct remains){.events = {.fd = -1, .ready = changed}, .base = base};
	memcpy(r->name, name, size);
	/* A new descriptor of these events has something to tell at once. */
	if (loop_add(&r->events, fd, EPOLLPRI) < 0) {
		free(r);
		return;
	}
	(void)fd_steal(&fd);
	r->next = first;
	first = r;
	count++;
}
