/* SPDX-License-Identifier: MIT */
/*
 * The way down: services in reverse order, TERM to what else is in the tree, SIGKILL to what is
 * left, then a child unmounts, remounts read-only and syncs, and PID 1 asks the kernel. Every step
 * has a deadline, and all of them together have one (ShutdownDeadlineSec=), past which it is
 * forced: a shutdown always ends. From 5 s on each step says what it waits for.
 */
#ifndef MOLT_INIT_SHUTDOWN_H
#define MOLT_INIT_SHUTDOWN_H

#include <stdbool.h>

#include "conf/record.h"
#include "kernel/error.h"

/* A reboot is a kexec where a kernel is loaded for that (kexec(8)). */
enum shutdown_kind { SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_KEXEC, SHUTDOWN_HALT };

/* "poweroff", "reboot", "kexec" or "halt"; "power off" and so on, for a sentence. */
const char *shutdown_word(enum shutdown_kind kind);
const char *shutdown_name(enum shutdown_kind kind);
/* False: there is no such word. */
bool shutdown_kind_of(const char *word, enum shutdown_kind *ret);

/* Begins; another call while it is under way is -EBUSY, except during the first step, where it
 * changes the kind. */
int shutdown_begin(enum shutdown_kind kind, struct error *e);
/* Past everything: the disks are synced, by a child with a bound, and the kernel is told. Said a
 * second time, not even that. */
void shutdown_force(enum shutdown_kind kind);
/* A service has changed: perhaps all are down. */
void shutdown_services_changed(void);
/* The end alone, of a shutdown that another program began: its shutdown_word(). */
void shutdown_end(const char *how) __attribute__((noreturn));

/* While it lasts, for a life after a crash: as boot.h's. */
void shutdown_save(struct record_writer *w);
void shutdown_load(const struct record *r);
void shutdown_load_child(const struct record *r);
void shutdown_resume(void);

#endif
