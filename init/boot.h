/* SPDX-License-Identifier: MIT */
/*
 * From nothing to running services: the kernel's file systems, names and loopback, the local mounts
 * (in a child), then everything of Services=. What goes wrong on the way is told, and offered to a
 * person in a root shell where nothing else could go on.
 */
#ifndef MOLT_INIT_BOOT_H
#define MOLT_INIT_BOOT_H

#include "conf/record.h"
#include "kernel/error.h"

/* Mounts what PID 1 itself cannot do without, before anything else. Errors are logged: what is
 * missing shows soon enough. */
void boot_mount_kernel_file_systems(void);
/* Goes through the rest; returns at once, events do it. */
void boot_begin(void);
/* Of a system that ran, and has stopped its services: the shell of single-user mode, and they are
 * started again when it ends. */
void boot_to_single(void);
/* Services changed state: a stage may be waiting for that. */
void boot_services_changed(void);

/* While it lasts, for a life after a crash: which step it is in. */
void boot_save(struct record_writer *w);
void boot_load(const struct record *r);
void boot_each_fd(int (*visit)(int fd));
/* A note of keep_note_child(), of whatever step. */
void boot_load_child(const struct record *r);
/* Everything is loaded: goes on with that step, every one of which may be done twice. Does nothing
 * if the boot is over. */
void boot_resume(void);

#endif
