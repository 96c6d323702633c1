/* SPDX-License-Identifier: MIT */
/*
 * Whether the Condition...= and Assert...= of a service hold: looked at by a child, since a path
 * may lie on a file system that does not answer. The child says it by its exit code, and by a line
 * through the pipe of spawn.h.
 */
#ifndef MOLT_SERVICES_CHECK_H
#define MOLT_SERVICES_CHECK_H

#include "conf/unit.h"

enum check_exit {
	CHECK_MET = 0,
	CHECK_UNMET = 1, /* a condition is not met: the service stays down, and has not failed */
	CHECK_ASSERTION = 2, /* an assertion is not: it has failed */
};

/* The child: writes which is not met to the pipe, and ends. */
void __attribute__((noreturn)) check_run(const struct unit *u, int pipe);

/* Whether one holds, without its "!": 1, 0, or a negative errno. Asks the system; for a child. */
int check_one(const struct condition *c, void *unused);

#endif
