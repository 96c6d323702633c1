/* SPDX-License-Identifier: MIT */
/*
 * Where the root of another generation stays attached, out of everybody's reach: a tmpfs at
 * VAULT_PATH, covered by a second, empty one. No path leads into the first; PID 1 holds a
 * descriptor of it.
 */
#ifndef MOLT_UPGRADE_VAULT_H
#define MOLT_UPGRADE_VAULT_H

#include "kernel/error.h"

#define VAULT_PATH "/run/molt/vault"

/* Makes it, once. 0 or negative errno with text. */
int vault_open(struct error *e);
/* Takes up the descriptor that an exec carried over. */
void vault_adopt(int fd);
int vault_fd(void); /* -1: none yet */

/* Makes (if missing) the mount point for a generation and opens it (O_PATH). A descriptor or
 * negative errno. */
int vault_slot(unsigned generation, struct error *e);
/* Unmounts what is at the slot, lazily, and removes it. Does not wait for file systems that end
 * with it. */
int vault_release(unsigned generation, struct error *e);

/* After a crash: releases whatever there is but that one (0: all). */
void vault_clear(unsigned kept);

#endif
