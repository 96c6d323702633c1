/* SPDX-License-Identifier: MIT */
/*
 * The last child of a shutdown: swap off, unmount what can be and take apart the devices that it
 * lay on, the rest read-only, sync.
 *
 * A program or library that was replaced on disk while PID 1 runs from it keeps its file system
 * writable (a deleted file that is open: EBUSY), and a fork shares it. Only who executes the new
 * program lets go of the old one.
 */
#ifndef MOLT_INIT_UNMOUNT_H
#define MOLT_INIT_UNMOUNT_H

#include <stdbool.h>

#include "kernel/mounts.h"

/* The child's exit code if PID 1 has to execute /sbin/init to end the system (reexec_end()), which
 * can do so. */
#define UNMOUNT_NEEDS_SUCCESSOR 9

void unmount_everything(void) __attribute__((noreturn));
/* One round over all mounts, the deepest first: how many were unmounted, and how many not. */
unsigned unmount_round(unsigned *ret_left);
/* What such a round does not touch: the root, and what the kernel makes by itself. */
bool unmount_leaves(const struct mount *m);
/* For that successor: everything that is left and can be written to, read-only. How many could not.
 * `last`: that is an error; else there may still be a successor to try. */
unsigned unmount_read_only(bool last);

#endif
