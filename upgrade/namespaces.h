/* SPDX-License-Identifier: MIT */
/*
 * The other mount namespaces of the tree: those with a process in them, and those that a descriptor
 * or a bind mount keeps for somebody to enter later (pins.h). Each whose root is the image that
 * runs gets the same pivot as PID 1's own, to a copy of the new root's mount; one with a root of
 * its own is left alone. PID 1 enters none of them: a child looks at them before the freeze
 * (scout.h), another one does the pivots (porter.h), and what it needs for it is held here, so that
 * a child that is killed can be replaced.
 */
#ifndef MOLT_UPGRADE_NAMESPACES_H
#define MOLT_UPGRADE_NAMESPACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"
#include "upgrade/holders.h"
#include "upgrade/pivot.h"

enum namespace_fate {
	NAMESPACE_UNKNOWN, /* not looked at yet */
	NAMESPACE_SWAPPED, /* its root is the image: it is to be pivoted */
	NAMESPACE_OWN_ROOT, /* left alone */
	NAMESPACE_BARRED, /* its root is the image, and it cannot be pivoted: `why` */
};

#define NAMESPACE_NAME_MAX 512

struct namespace
{
	uint64_t id; /* inode number of /proc/PID/ns/mnt */
	pid_t pid; /* somebody in it, or who has a descriptor of it; 0: nobody */
	int held_fd; /* that descriptor; -1: pid is in it */
	char *mount; /* a bind mount of it, for want of anybody; else NULL */
	int fd; /* keeps it alive */
	enum namespace_fate fate;
	char why[256];
	int copy; /* SWAPPED: the copy of the new root, detached until the pivot */
	struct pivot pivot; /* SWAPPED */
};

struct namespaces {
	const struct pivot *main; /* of PID 1's own */
	struct namespace *list;
	size_t count;
	int tree;
	uint64_t own_id;
	int watch; /* of the mounts in PID 1's own: one more may keep a namespace */
	bool pinned; /* there are such mounts */
	struct porter *porter; /* NULL: there is nothing to pivot */
	bool look_only; /* for a plan: the new root itself instead of copies of it */
};

/* Finds those of the processes in `tree` and of descriptors. namespaces_done() undoes it, also
 * after a failure. 0 or negative errno with text. */
int namespaces_find(struct namespaces *n, int tree, struct error *e);
/* Whether a scout has to be sent: to those that were found, or for mounts that keep others. */
bool namespaces_to_look_at(const struct namespaces *n);
/* One more, if it is not known already: for the scout. Takes over fd (-1: it cannot be opened, and
 * `like` says why) and copies `like`'s pid, held_fd, mount and why. 1: added; 0: known, or negative
 * errno. */
int namespaces_add(struct namespaces *n, const struct namespace *like, int fd);
bool namespaces_know(const struct namespaces *n, uint64_t id);
/* "process 812 (tmux)", "/run/netns/x (a mount)", ...: of which namespace a message is. */
void namespace_name(const struct namespace *ns, char *buf, size_t size);
/*
 * Has a child look at those that were found, and another one ready for those to be swapped.
 * main->new_root must be mounted somewhere in PID 1's namespace, or it cannot be copied; `main` is
 * borrowed. 0 or negative errno with text.
 */
int namespaces_prepare(struct namespaces *n, const struct pivot *main, struct error *e);

/* Once the tree is frozen: -ESTALE where there is a new one, or one that has changed since; then
 * everything is to be prepared again. 0 or another negative errno with text. */
int namespaces_verify(const struct namespaces *n, struct error *e);
/* The same of the descriptors that were come across since. */
int namespaces_verify_held(const struct namespaces *n, const struct holders *h, struct error *e);

/* How many are to be pivoted; the mount ids of their old roots with the new ones (borrowed) into
 * arrays of that size. */
size_t namespaces_swapped(const struct namespaces *n);
void namespaces_roots(const struct namespaces *n, uint64_t *ids, int *new_roots);

void namespaces_done(struct namespaces *n);

#endif
