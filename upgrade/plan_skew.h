/* SPDX-License-Identifier: MIT */
/*
 * Skew: from the thaw on, an old process that loads a module (NSS, PAM, iconv) or executes a helper
 * gets the new image's. Where the C library differs that can go wrong, so the plan says whether it
 * does, and who will go on with old code.
 */
#ifndef MOLT_UPGRADE_PLAN_SKEW_H
#define MOLT_UPGRADE_PLAN_SKEW_H

#include <stddef.h>
#include <sys/types.h>

#include "upgrade/plan.h"

/* Who stays on old code. Start from a zeroed struct. */
struct stale {
	pid_t last; /* counted */
	size_t n_processes;
	unsigned n_named;
	char names[512];
};

/* Counts the holder's process, once, if that is old code which stays. Holders of one process come
 * one after the other. */
void stale_add(struct stale *s, const struct holder *h, enum holder_action action);

/* Sends a record "skew" for the loader and for the C library, and a warning if somebody is
 * concerned. */
void plan_skew(int socket, int root, const struct stale *s);

#endif
