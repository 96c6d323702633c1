/* SPDX-License-Identifier: MIT */
/*
 * Asking an init whether it could take over, an image's own or the one that is on disk now:
 * /sbin/init --check-state FD, chrooted in `root`, on a copy of the real state. A missing library,
 * a broken configuration or a foreign init show here and not in a kernel panic.
 */
#ifndef MOLT_UPGRADE_CHECK_STATE_H
#define MOLT_UPGRADE_CHECK_STATE_H

#include <stdint.h>

#include "kernel/error.h"

/* In a child; `who` is for the sentence: "the image's init". What it says on the way is sent over
 * `socket` as warnings. 0, or negative errno with its last words. */
int check_state(const char *who, int root, int state_fd, uint64_t timeout_usec, int socket,
	struct error *e);

#endif
