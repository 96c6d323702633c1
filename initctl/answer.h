/* SPDX-License-Identifier: MIT */
/* The answer of PID 1, kept: for what can only be printed once all of it is there. */
#ifndef MOLT_INITCTL_ANSWER_H
#define MOLT_INITCTL_ANSWER_H

#include <stddef.h>

#include "initctl/connection.h"

struct answer {
	struct record **records; /* in the order of arrival */
	size_t count;
	size_t capacity;
	struct result result;
};

/* Asks and keeps everything; answer_done(). */
void ask_all(const struct request *q, struct answer *ret);

/* Keeps a copy of one record: a record_handler, with a struct answer as its userdata. */
void answer_keep(void *answer, const struct record *r);

/* The first record of that kind, or NULL. */
const struct record *answer_find(const struct answer *a, const char *kind);

/* The records of that kind: a NULL-ended array, the caller's to free; the records stay the
 * answer's. */
const struct record **answer_select(const struct answer *a, const char *kind, size_t *ret_count);

/* The value of a field, "" if the record has none. */
const char *field(const struct record *r, const char *key);

void answer_done(struct answer *a);

#endif
