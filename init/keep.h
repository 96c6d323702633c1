/* SPDX-License-Identifier: MIT */
/*
 * The state, kept current for the life after a crash (kernel/crash.h): written down at the end of
 * each turn of the loop in which something changed, into one of two memfds in turn, so that a crash
 * in the middle leaves the one before whole. While events come thick and fast it is written every
 * few milliseconds; always before PID 1 waits again, and before a process that has ended is buried:
 * its exit code is not lost.
 *
 * What must not be done twice, whatever happens before the turn ends, is noted at once in a third
 * one: processes that were forked, requests that were taken. So is what comes only once: the
 * messages of services.
 */
#ifndef MOLT_INIT_KEEP_H
#define MOLT_INIT_KEEP_H

#include <stdbool.h>
#include <sys/types.h>

#include "kernel/error.h"
#include "services/inbox.h"
#include "services/service.h"

/* Until keep_open(), of a life that has the one before's state and notes (-1: none yet): the next
 * would have both. `notes_fd` is taken over. */
void keep_notes_from(int state_fd, int notes_fd);
/* Makes the descriptors and writes the first one. Without them a crash begins with an old state or
 * none; negative errno with text then. */
int keep_open(struct error *e);
/* The end of a turn. Cheap if nothing has changed. */
void keep_turn(void);
/* Now, whatever else is to come. */
void keep_now(void);

void keep_note_fork(const struct service *s, const struct fork_note *n);
void keep_note_request(int client_fd);
void keep_note_message(const struct letter *l);
/* A child that a step of the boot or of the shutdown waits for: the step's word. */
void keep_note_child(const char *what, pid_t pid);

#endif
