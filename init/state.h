/* SPDX-License-Identifier: MIT */
/*
 * PID 1's state as one text of records, in a sealed memfd, across an exec. Each owner writes and
 * reads its own part; here is only their order. Any version reads its neighbours': unknown records
 * and keys are skipped with a warning.
 */
#ifndef MOLT_INIT_STATE_H
#define MOLT_INIT_STATE_H

#include <stdbool.h>

#include "conf/record.h"
#include "kernel/error.h"

#define STATE_VERSION "1"

/* Appends the whole state to a text; errors are the writer's. */
void state_write(struct record_writer *w);

/* Writes the whole state into a new sealed memfd (O_CLOEXEC). A descriptor, the caller's, or
 * negative errno. */
int state_snapshot(void);

/* Lets all that the state names by number survive the next exec (or not). */
void state_keep_descriptors(bool keep);

/*
 * Reads it into a PID 1 that has nothing yet but its loop, its tree and its configuration. After a
 * crash (`doubt`) descriptors are first compared with what they were when it was written.
 */
int state_load(int fd, bool doubt, struct error *e);
/* After a crash, once the state is loaded: the messages that were noted and wait to be heard again;
 * before the sweep, since they have descriptors. */
void state_load_messages(int fd);
/* After a crash: what was noted since the state was written; and closes what nobody knows. */
void state_load_notes(int fd);
void state_sweep_descriptors(void);

/*
 * molt --check-state FD: whether this program, with the configuration below its "/", could take up
 * that state. Says on stderr what is wrong, the reason last. The exit code.
 */
int state_check(int fd);

#endif
