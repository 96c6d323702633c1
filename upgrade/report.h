/* SPDX-License-Identifier: MIT */
/* How long each phase took, told to whoever asked for the upgrade as each one ends. */
#ifndef MOLT_UPGRADE_REPORT_H
#define MOLT_UPGRADE_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/record.h"
#include "upgrade/blackout.h"

void report_init(void (*emit)(const char *text, size_t length));
/* A phase begins now. */
void report_begin(void);
/* The phase that began last has ended, and the next begins. */
void report_end_phase(const char *name, bool blackout);
/* The phases of a blackout, and its length. The next phase begins now. */
void report_blackout(const struct blackout_report *b);
/* A line for a person; also to the log. */
void report_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A service has got onto an image, or has failed to (rollout.h). */
struct service;
void report_rolled(const struct service *s);

void report_save(struct record_writer *w);
void report_load(const struct record *r);

#endif
