/* SPDX-License-Identifier: MIT */
/*
 * What a descriptor's number stands for. A state names descriptors by number; a PID 1 that crashed
 * may have closed one and opened another in its place since the state was written. So the state has
 * their identities too (device, inode, type), and the next life asks whether each is still the
 * same.
 */
#ifndef MOLT_KERNEL_IDENTITY_H
#define MOLT_KERNEL_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

/* The identity as one word, for the state; NULL if the descriptor is not open. Remembered until
 * fd_close(): asking again costs nothing. Lives until then. */
const char *identity_of(int fd);

/* Whether fd is what the word says; nothing else. */
bool identity_is(int fd, const char *word);

/*
 * Whether fd is still what the word says. If not it is marked as lost: what is there of the life
 * before is moved to another number (identity_find()), and this one taken by something inert, so
 * that no new descriptor gets it. O_CLOEXEC tells what this life has opened itself: that is lost
 * too, and stays as it is.
 */
bool identity_check(int fd, const char *word);
/* The number itself, or -1 if identity_check() found it lost: for whoever reads numbers in a state.
 */
int identity_take(int fd);

/* For whoever reads numbers in a note, which is younger than the state: where it is that the life
 * before had under this one and that the word says, or -1. The number itself, unless
 * identity_check() has moved it, in this life or in one that crashed before it had a state of its
 * own. */
int identity_find(int fd, const char *word);

/* fd_close() says so. */
void identity_forget(int fd);

/*
 * Calls `visit` for each open descriptor above 2 that an exec would keep: what the program itself
 * opens is closed on exec, so these are what an earlier life left behind.
 */
void identity_each_inherited(void (*visit)(int fd));
/* Closes one of those. What a note has named (identity_find()), and what holds a number, stays
 * until identity_close_left(), which is for when a state is written: if this life crashes before
 * that, the next one reads the same notes. No program that is started gets it. */
void identity_leave(int fd);
void identity_close_left(void);

#endif
