/* SPDX-License-Identifier: MIT */
/*
 * A shutdown that is to be later: one at a time, a new one takes the place of the one before. PID 1
 * keeps it, over re-execs, crashes and upgrades. Who is logged in is told more often as it nears
 * (conf/when.h), and in the last five minutes nobody may log in any more (/run/nologin).
 */
#ifndef MOLT_INIT_SCHEDULE_H
#define MOLT_INIT_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/record.h"
#include "conf/when.h"
#include "init/shutdown.h"
#include "kernel/error.h"

struct schedule_request {
	enum shutdown_kind kind;
	struct when when;
	const char *by; /* who asks; NULL: nobody in particular */
	const char *message; /* for the people; NULL: none */
	bool quiet; /* nobody is told */
};

/* At once where the time has come. 0 or negative errno with text, -EBUSY: it is going down. */
int schedule_set(const struct schedule_request *q, struct error *e);
/* Only says that it will be. */
void schedule_tell(const struct schedule_request *q);
/* False: there was none. */
bool schedule_cancel(const char *by, const char *message, bool quiet);
/* Whether one is scheduled, by that one. */
bool schedule_is_by(const char *by);
/* A word that whatever comes next is now. */
void schedule_tell_now(enum shutdown_kind kind);

/* The record "scheduled" of the protocol, if there is one; else false. */
bool schedule_describe(struct record_writer *w);

void schedule_save(struct record_writer *w);
void schedule_load(const struct record *r);
void schedule_resume(void);

#endif
