/* SPDX-License-Identifier: MIT */
/*
 * Asking the services whether an upgrade may be: PREPARE to each that runs and has a handshake
 * (handshake.h), and what becomes of the answers. Nothing here waits: the answers come by the loop.
 *
 * The first refusal ends the vote, and so does the first deadline that passes without an answer.
 * With `force` both are only told, and the vote ends when all have answered or are late.
 *
 * Who said PREPARED waits for a word on how it went on: REEXEC (policy.h), ABORT or COMMIT.
 */
#ifndef MOLT_SERVICES_VOTE_H
#define MOLT_SERVICES_VOTE_H

#include "services/message.h"
#include "services/service.h"

/* Whether the upgrade would ask this service. */
bool vote_asks(const struct service *s);

/*
 * Begins. `done` is called once, never from within vote_begin(): NULL if nobody objects, else
 * "postgres: a backup is running".
 */
void vote_begin(unsigned generation, bool force, void (*done)(const char *refused));
/* The upgrade has come to nothing, wherever it stood: tells ABORT to all that were asked, have not
 * refused and have heard of no end. `done` is not called any more. */
void vote_abort(void);
/* It is done: tells them COMMIT. */
void vote_commit(void);

/* From handshake.c. Whether the packet answers the PREPARE. */
bool vote_heard(struct instance *i, const struct answer *a);
/* The socket has been closed. */
void vote_lost(struct instance *i);

/* The decision on one ballot, alone. */
enum ballot_says { BALLOT_WAIT, BALLOT_YES, BALLOT_NO, BALLOT_LATE };
enum ballot_says ballot_read(const struct ballot *b, bool force, uint64_t now_usec);
/* Puts an answer down. False: it is none to this ballot's PREPARE, or one of too many. */
bool ballot_put(struct ballot *b, const struct answer *a);

#endif
