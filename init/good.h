/* SPDX-License-Identifier: MIT */
/*
 * Whether this boot is good: every service of Services= is up, once. Then the hooks of boot-good.d
 * run, which may tell a boot loader that counts. Only the generation that was booted can be good.
 */
#ifndef MOLT_INIT_GOOD_H
#define MOLT_INIT_GOOD_H

#include <stdbool.h>

#include "conf/record.h"

/* Something has changed: looks whether it is good now, and runs the hooks if so. */
void good_check(void);
/* Hooks run; nothing may begin meanwhile that runs others, or executes PID 1 anew. */
bool good_is_busy(void);
/* The system goes down: they are killed. */
void good_cancel(void);

/* Fields of the system's record. What a life after a crash does not find done it does again. */
void good_save(struct record_writer *w);
void good_load(const struct record *r);

#endif
