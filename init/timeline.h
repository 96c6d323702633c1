/* SPDX-License-Identifier: MIT */
/* What the boot took its time for, stage by stage: kept for `initctl blame`. */
#ifndef MOLT_INIT_TIMELINE_H
#define MOLT_INIT_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/record.h"

#define TIMELINE_MAX 48

struct timeline_entry {
	char name[24];
	uint64_t begin_usec, end_usec; /* CLOCK_MONOTONIC; end 0: it has not ended */
	bool failed;
};

/* A stage begins; one of that name that is there already is begun anew. */
void timeline_begin(const char *name);
void timeline_end(const char *name, bool failed);
/* NULL: there are no more. In the order in which they began. */
const struct timeline_entry *timeline_get(unsigned n);

void timeline_save(struct record_writer *w); /* records of kind "stage" */
void timeline_load(const struct record *r);

#endif
