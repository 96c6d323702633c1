/* SPDX-License-Identifier: MIT */
/*
 * Messages of sd_notify(3) over a crash of PID 1. One is noted before it is taken off its socket
 * and before anybody looks into it; the note is worth something until a state is written that has
 * what the message did. The life after a crash hears again what was noted, in the same order:
 * nothing that a message does is worse for being done twice.
 *
 * A message may be what PID 1 crashes over, so it is heard LETTER_TRIES times at most.
 */
#ifndef MOLT_SERVICES_INBOX_H
#define MOLT_SERVICES_INBOX_H

#include <stdint.h>
#include <sys/types.h>

#include "conf/record.h"

#define LETTER_TRIES 2

/* A message, and whose it is. */
struct letter {
	const char *unit;
	unsigned instance;
	pid_t sender;
	uint64_t number; /* they are counted; 0: it is in the state itself */
	unsigned tries; /* how often it was begun to be heard */
	const char *text;
	const int *fds; /* that came along */
	size_t n_fds;
};

/* The record's fields, without begin (kind "message", the id is the unit) and end. */
void inbox_write(struct record_writer *w, const struct letter *l);
/* Those that wait to be heard again: whole records. */
void inbox_save(struct record_writer *w);

/*
 * A record of kind "message": it waits to be heard again, with duplicates of its descriptors as far
 * as they are still what they were. Not one that was noted (`number`) and is in the state, as its
 * count `heard` says; nor one that was tried too often, which is logged.
 */
void inbox_load(const struct record *r, uint64_t heard);
/* All that was noted is loaded: the crash may have come of the last one. */
void inbox_doubt_last(void);
/* Everything is loaded and resumed: hears them. `keep` writes the state, so that the life after the
 * next crash knows how far it got. */
void inbox_hear(void (*keep)(void));

#endif
