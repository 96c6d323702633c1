/* SPDX-License-Identifier: MIT */
/*
 * The event loop: epoll and timers, one thread. Sources and timers are embedded in their owners and
 * never allocated here. One event is taken from the kernel at a time, so a handler may remove or
 * free any source or timer, its own included.
 */
#ifndef MOLT_KERNEL_LOOP_H
#define MOLT_KERNEL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop_source {
	int fd; /* -1: not in the loop; borrowed, its owner closes it after loop_remove() */
	void (*ready)(struct loop_source *s, uint32_t events);
};

struct loop_timer {
	uint64_t deadline_usec; /* CLOCK_MONOTONIC; 0: not armed */
	void (*expired)(struct loop_timer *t);
	struct loop_timer *next, *previous;
};

/* Makes the loop of this process. 0 or negative errno. */
int loop_init(void);

/* Watches fd for `events` (EPOLLIN ...). 0 or negative errno; the source must not be in already. */
int loop_add(struct loop_source *s, int fd, uint32_t events);
int loop_modify(struct loop_source *s, uint32_t events);
void loop_remove(struct loop_source *s); /* does nothing if it is not in */

/* (Re)arms; USEC_INFINITY disarms. Fires once, on or after the deadline. Cannot fail. */
void timer_set(struct loop_timer *t, uint64_t deadline_usec);
void timer_cancel(struct loop_timer *t);
bool timer_armed(const struct loop_timer *t);

/* Nothing is ready: loop_run_once() would wait. */
bool loop_is_idle(void);

/*
 * Waits for one event or timer and handles it. 0, or the negative errno of epoll_wait(2) (never
 * EINTR).
 */
int loop_run_once(void);

#endif
