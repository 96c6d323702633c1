/* SPDX-License-Identifier: MIT */
/*
 * The frozen part of the transaction: freeze, verify, seize, move + pivot, migrate, thaw. It runs
 * through without returning to the event loop, opens nothing that was not opened before, and ends
 * in one of two ways: on the other root with everything migrated, or as if it had never begun.
 * Whatever happens, the tree is thawed: also if PID 1 crashes in it, which ends in the same two
 * ways, and in another life of PID 1.
 */
#ifndef MOLT_UPGRADE_BLACKOUT_H
#define MOLT_UPGRADE_BLACKOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/error.h"
#include "upgrade/namespaces.h"
#include "upgrade/pivot.h"
#include "upgrade/tries.h"

struct blackout_request {
	int tree; /* cgroup directory */
	int events_fd; /* its cgroup.events */
	int flag_fd; /* its cgroup.freeze, for writing */
	struct pivot *pivot; /* of PID 1's own namespace */
	struct namespaces *namespaces; /* the others */
	struct listeners *listeners; /* sockets that forbid it; off with `force` */
	uint64_t freeze_usec; /* how long the freeze may take */
	uint64_t blackout_usec; /* how long everything may take: past it, back */
	struct tries *tries; /* in a row that has begun; counted here */
	bool force; /* writers to the old image do not forbid it */
	/* Called once the other root is the root and everything runs again: to write that down, so
	 * that a PID 1 which crashes from then on goes on from there. */
	void (*swapped)(void *userdata);
	void *userdata;
};

enum blackout_phase {
	PHASE_FREEZE,
	PHASE_VERIFY,
	PHASE_SEIZE,
	PHASE_PIVOT,
	PHASE_MIGRATE,
	PHASE_THAW,
	N_PHASES
};

struct blackout_report {
	uint64_t usec[N_PHASES];
	uint64_t total_usec; /* from the write that freezes to the last write that thaws */
	size_t n_processes; /* looked at */
	size_t n_migrated; /* tasks that were given another directory */
	size_t n_left; /* references that stay on the old image */
	unsigned n_tries; /* so far; more than one: somebody was in the way */
};

/*
 * 0, or a negative errno with text and everything as before: -ETIMEDOUT it would not freeze, -EROFS
 * somebody writes to the old image or listens on it, -ESTALE prepare the namespaces again, -EBUSY
 * somebody is in the way at each try of this row.
 */
int blackout_run(const struct blackout_request *b, struct blackout_report *ret, struct error *e);

const char *blackout_phase_name(enum blackout_phase phase);

#endif
