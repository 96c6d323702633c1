/* SPDX-License-Identifier: MIT */
/*
 * The hardware watchdog, pinged from the loop at half its time: a PID 1 that hangs is a machine
 * that is reset. Its descriptor goes from life to life and is never closed while it is armed. On
 * the way down it has RebootWatchdogSec= instead: it is pinged no longer than that lasts, so that a
 * shutdown ends even if PID 1 or the kernel does not.
 */
#ifndef MOLT_INIT_WATCHDOG_H
#define MOLT_INIT_WATCHDOG_H

#include <stdbool.h>

#include "conf/record.h"

/* As init.conf says now: opened, set anew, or switched off. */
void watchdog_apply(void);
/* The system goes down. `halt`: it is to stand still then, and not to be reset. */
void watchdog_shutdown(bool halt);

void watchdog_save(struct record_writer *w);
void watchdog_load(const struct record *r);
void watchdog_each_fd(int (*visit)(int fd));

#endif
