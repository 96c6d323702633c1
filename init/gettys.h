/* SPDX-License-Identifier: MIT */
/* Where people log in: a getty on each console of the kernel command line, and on tty1. */
#ifndef MOLT_INIT_GETTYS_H
#define MOLT_INIT_GETTYS_H

#include <stdbool.h>

/* Which programs an image has, and which terminals a machine: for gettys_choose(). */
struct gettys_world {
	const char *consoles; /* /sys/class/tty/console/active: "tty0 ttyS0\n" */
	bool (*is_there)(const char *path); /* of a program, or a terminal below /dev */
};

/*
 * The names of the services for these `terminals` (NULL: for the consoles, and for tty1 where there
 * are virtual terminals; only for what is there). *ret is the caller's, strings_free(): empty where
 * there is no getty. 0 or negative errno. Pure.
 */
int gettys_choose(const struct gettys_world *w, char *const *terminals, char ***ret);

/* Starts what Gettys= of init.conf says. */
void gettys_start(void);

#endif
