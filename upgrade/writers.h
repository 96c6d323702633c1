/* SPDX-License-Identifier: MIT */
/*
 * Nobody may write to the image that is taken away. Asked in the blackout, once everything stands
 * still: first the kernel, whether there is a writer at all (kernel/writers.h); it knows also of
 * descriptors that no process has just now. Only where there is one, who it is.
 */
#ifndef MOLT_UPGRADE_WRITERS_H
#define MOLT_UPGRADE_WRITERS_H

#include <stdint.h>

#include "kernel/error.h"

struct namespaces;

/*
 * `root` is that of PID 1's name space and mounts[0] its id; the others are those of the name
 * spaces that are swapped along. 0; -EROFS: somebody writes whose service's policy does not replace
 * him, or nobody in sight does; another negative errno with text.
 */
int writers_refuse(int tree, int root, const struct namespaces *others, const uint64_t *mounts,
	unsigned n, uint64_t deadline_usec, struct error *e);

#endif
