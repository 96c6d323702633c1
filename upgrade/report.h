/* SPDX-License-Identifier: MIT */
/* How long each phase took, told to whoever asked for the upgrade as each one ends. */
#ifndef MOLT_UPGRADE_REPORT_H
#define MOLT_UPGRADE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
void report_warning(const char *text);
/* A hook has ended. `last` line of what it said, and why it `failed`; each may be NULL. */
void report_hook(
	const char *kind, const char *path, uint64_t usec, const char *last, const char *failed);
/* A service has got onto an image, or has failed to (rollout.h). */
struct service;
void report_rolled(const struct service *s);

void report_save(struct record_writer *w);
void report_load(const struct record *r);

#endif
