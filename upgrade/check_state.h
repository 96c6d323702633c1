/* SPDX-License-Identifier: MIT */
/*
 * Asking the image's own init whether it could take over: /sbin/init --check-state FD, chrooted in
 * the image, on a copy of the real state. A missing library, a broken configuration or a foreign
 * init show here and not in a kernel panic.
 */
#ifndef MOLT_UPGRADE_CHECK_STATE_H
#define MOLT_UPGRADE_CHECK_STATE_H

#include <stdint.h>

#include "kernel/error.h"

/* In the judging child. What it says on the way is sent over `socket` as warnings. 0, or negative
 * errno with its last words. */
int check_state(int root, int state_fd, uint64_t timeout_usec, int socket, struct error *e);

#endif
