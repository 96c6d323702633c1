/* SPDX-License-Identifier: MIT */
/*
 * The environment of PID 1. What the first life was given, by the kernel's command line or by the
 * manager of a container (`container=`), is every later one's as well, whichever way it begins:
 * /proc/1/environ is asked by others, and the loader and the libraries take their settings from
 * there. Services get none of it.
 */
#ifndef MOLT_KERNEL_ENVIRONMENT_H
#define MOLT_KERNEL_ENVIRONMENT_H

/*
 * Takes it as it is now, for the functions below: its strings are borrowed, and are not to be
 * changed any more. What goes beyond ENVIRONMENT_MAX variables is dropped; the kernel hands
 * over 32.
 */
void environment_take(void);

#define ENVIRONMENT_MAX 64

/* For the next life; $PATH and $TERM are there in any case. */
char *const *environment_own(void);
/*
 * For one that is watched, and can be replaced, while it begins: with LD_BIND_NOW, so that what
 * libraries miss of each other is found out while they are loaded and not at some time later.
 */
char *const *environment_strict(void);
/* Without what the loader and the C library take their settings from: for one that must come up
 * whatever was wrong with the lives before. */
char *const *environment_least(void);

#endif
