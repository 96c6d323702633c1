/* SPDX-License-Identifier: MIT */
/*
 * From nothing to running services: the kernel's file systems, names and loopback, the local mounts
 * (in a child), then everything of Services=. What goes wrong on the way is told, and offered to a
 * person in a root shell where nothing else could go on.
 */
#ifndef MOLT_INIT_BOOT_H
#define MOLT_INIT_BOOT_H

#include "kernel/error.h"

/* Mounts what PID 1 itself cannot do without, before anything else. Errors are logged: what is
 * missing shows soon enough. */
void boot_mount_kernel_file_systems(void);
/* Goes through the rest; returns at once, events do it. */
void boot_begin(void);

#endif
