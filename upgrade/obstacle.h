/* SPDX-License-Identifier: MIT */
/* Why a task cannot be moved to another image, or not now, in words: for plans and `initctl
 * holders`. */
#ifndef MOLT_UPGRADE_OBSTACLE_H
#define MOLT_UPGRADE_OBSTACLE_H

#include <sys/types.h>

struct obstacle {
	pid_t tid; /* the task it is about; 0: none yet */
	char why[300]; /* nothing can be run in it: what it holds stays. "" if it can */
	char delay[300]; /* the upgrade has to wait for it, or is refused. "" if not */
	char advice[160]; /* what a person can do about either; "": nothing in particular */
};

/* Looks at it, unless it is the one looked at last. */
void obstacle_look(struct obstacle *o, pid_t tid);

/*
 * Tasks of the tree in an uninterruptible sleep, and still in the same after a while: nothing can
 * freeze as long as they are. Says so to `tell`, each with its name, its cgroup and where it
 * sleeps. For a child: it waits some milliseconds, if there is any.
 */
void obstacle_find_sleepers(
	int tree, void (*tell)(void *userdata, const char *text), void *userdata);

#endif
