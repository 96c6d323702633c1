/* SPDX-License-Identifier: MIT */
#include "kernel/loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/epoll.h>

#include "kernel/util.h"

static int epoll_fd = -1;
static struct loop_timer *timers; /* sorted by deadline, earliest first */

int loop_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd < 0 ? -errno : 0;
}

int loop_add(struct loop_source *s, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = s};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	s->fd = fd;
	return 0;
}

int loop_modify(struct loop_source *s, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = s};

	return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &event) < 0 ? -errno : 0;
}

void loop_remove(struct loop_source *s)
{
	if (s->fd < 0)
		return;
	/* Fails only where the owner closed the descriptor first: then the kernel has removed it.
	 */
	(void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
}

void timer_cancel(struct loop_timer *t)
{
	if (t->deadline_usec == 0)
		return;
	if (t->previous)
		t->previous->next = t->next;
	else
		timers = t->next;
	if (t->next)
		t->next->previous = t->previous;
	t->next = t->previous = NULL;
	t->deadline_usec = 0;
}

void timer_set(struct loop_timer *t, uint64_t deadline_usec)
{
	struct loop_timer *before = NULL;

	timer_cancel(t);
	if (deadline_usec == USEC_INFINITY)
		return;
	t->deadline_usec = deadline_usec ? deadline_usec : 1;
	for (struct loop_timer *i = timers; i && i->deadline_usec <= t->deadline_usec; i = i->next)
		before = i;
	t->previous = before;
	t->next = before ? before->next : timers;
	if (t->next)
		t->next->previous = t;
	if (before)
		before->next = t;
	else
		timers = t;
}

bool timer_armed(const struct loop_timer *t)
{
	return t->deadline_usec != 0;
}

/* Milliseconds until the first timer, rounded up so that it has expired when epoll_wait returns. */
static int wait_msec(void)
{
	uint64_t now, msec;

	if (!timers)
		return -1;
	now = clock_usec();
	if (timers->deadline_usec <= now)
		return 0;
	msec = (timers->deadline_usec - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
	return msec > INT_MAX ? INT_MAX : (int)msec;
}

static bool expire_one_timer(void)
{
	struct loop_timer *t = timers;

	if (!t || t->deadline_usec > clock_usec())
		return false;
	timer_cancel(t);
	t->expired(t);
	return true;
}

bool loop_is_idle(void)
{
	struct epoll_event event;

	return wait_msec() != 0 && epoll_wait(epoll_fd, &event, 1, 0) == 0;
}

int loop_run_once(void)
{
	struct epoll_event event;
	int n = epoll_wait(epoll_fd, &event, 1, wait_msec());

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 1) {
		struct loop_source *s = event.data.ptr;
		s->ready(s, event.events);
	}
	/* One of each in turn: neither a busy socket nor a burst of timers starves the other. */
	(void)expire_one_timer();
	return 0;
}
