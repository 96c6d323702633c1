/* SPDX-License-Identifier: MIT */
/* An upgrade while it runs: for people a line as each phase ends, or each event as a line of JSON.
 */
#ifndef MOLT_INITCTL_PRINT_UPGRADE_H
#define MOLT_INITCTL_PRINT_UPGRADE_H

#include <stdbool.h>

#include "initctl/answer.h"

struct timeline {
	bool json;
	bool dry_run; /* the plan is all there will be: show it whole, at the end */
	struct answer kept; /* what is shown together at the end */
};

/* A record_handler, with a struct timeline as its userdata. */
void timeline_record(void *timeline, const struct record *r);

/*
 * Whether the result is the outcome of an upgrade: then it is the last line. What kept it from
 * being tried, or its outcome from being known, is a complaint as with any other verb.
 */
bool timeline_has_outcome(const struct result *result);

/* The end of it: what to do about those left on the old image, and the outcome as the last line. */
void timeline_end(struct timeline *t, const struct result *result);

#endif
