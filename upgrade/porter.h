/* SPDX-License-Identifier: MIT */
/*
 * The child that pivots the other mount namespaces in the blackout. It is started before the
 * freeze, outside of the frozen tree, with everything open that it needs, and does what it is told
 * over a socket. It notes each step in the journals of the pivots, which PID 1 sees as well: where
 * it dies or does not answer, another one takes its place and takes back (or finishes) what was
 * begun.
 */
#ifndef MOLT_UPGRADE_PORTER_H
#define MOLT_UPGRADE_PORTER_H

#include <stdint.h>

#include "kernel/error.h"
#include "upgrade/namespaces.h"

struct porter; /* opaque */

/* Starts it for the namespaces to be swapped, which are borrowed. *ret is the caller's,
 * porter_stop(). 0 or negative errno with text. */
int porter_start(struct porter **ret, const struct namespaces *n, struct error *e);

/* Tells it to pivot all of them, and returns at once. 0 or negative errno with text. */
int porter_begin(struct porter *p, struct error *e);
/* Waits for the end of that. 0, or a negative errno with text and everything as before. */
int porter_wait(struct porter *p, uint64_t deadline_usec, struct error *e);

/* Takes all of it back. By another child if need be, and not only until the deadline of the
 * blackout. 0 or negative errno with text. */
int porter_undo(struct porter *p, struct error *e);
/* What pivot_settle() does, in all of them; and their new roots propagate to each other as the old
 * ones did. Like porter_undo() in the rest. */
int porter_settle(struct porter *p, struct error *e);

/* Ends it. NULL is fine, and so is any of the above with NULL: there is nothing to do then. */
void porter_stop(struct porter *p);

#endif
