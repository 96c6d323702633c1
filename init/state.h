/* SPDX-License-Identifier: MIT */
/*
 * PID 1's state as one text of records, in a sealed memfd, across an exec. Each owner writes and
 * reads its own part; here is only their order. Any version reads its neighbours': unknown records
 * and keys are skipped with a warning.
 */
#ifndef MOLT_INIT_STATE_H
#define MOLT_INIT_STATE_H

#include <stdbool.h>

#include "kernel/error.h"

#define STATE_VERSION "1"

/* Writes the whole state into a new sealed memfd (O_CLOEXEC). A descriptor, the caller's, or
 * negative errno. */
int state_snapshot(void);

/* Lets all that the state names by number survive the next exec (or not). */
void state_keep_descriptors(bool keep);

/* Reads it into a PID 1 that has nothing yet but its loop, its tree and its configuration. */
int state_load(int fd, struct error *e);

/*
 * molt --check-state FD: whether this program, with the configuration below its "/", could take up
 * that state. Says on stderr what is wrong, the reason last. The exit code.
 */
int state_check(int fd);

#endif
