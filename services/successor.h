/* SPDX-License-Identifier: MIT */
/*
 * Daemons that re-execute themselves by forking: a new main process beside the old one, which
 * PIDFile= names once it is there. Nobody tells PID 1 that it is on its way, or has failed: what
 * can be seen is the PID file and who the main process's children are.
 */
#ifndef MOLT_SERVICES_SUCCESSOR_H
#define MOLT_SERVICES_SUCCESSOR_H

#include "services/service.h"

/* Whether the process executes a program that lies on that mount. */
bool successor_stands_on(pid_t pid, uint64_t mount_id);
bool successor_has_children(pid_t pid);

/* The process that PIDFile= names, if it is another than the main one, and on the image; 0: none.
 */
pid_t successor_find(const struct service *s);

/*
 * Looks once more, while the roll is asked for. True: a new main process was on its way, and has
 * been gone for long enough that none will come; waiting for the deadline is of no use.
 */
bool successor_has_failed(struct service *s);

#endif
