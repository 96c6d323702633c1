/* SPDX-License-Identifier: MIT */
/*
 * Hooks: programs that have a say in an upgrade (molt(8)). They run in a child outside of PID 1 and
 * in a cgroup of their own, tree/molt-hooks, so that whatever they leave behind can be ended. A
 * hook that does not end in time is killed, and so is what one has left running.
 */
#ifndef MOLT_UPGRADE_HOOKS_H
#define MOLT_UPGRADE_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "upgrade/hook_list.h"

struct hooks_request {
	enum hook_kind kind;
	unsigned old_generation; /* MOLT_OLD_GENERATION: the one that is left */
	unsigned new_generation; /* MOLT_NEW_GENERATION: the one that is gone to */
	const char *image; /* MOLT_IMAGE: the path that was asked for; NULL: none */
	bool rollback; /* MOLT_ROLLBACK=yes: the one gone to is the older */
	const char *root_name; /* MOLT_OLD_ROOT or MOLT_NEW_ROOT */
	int root; /* the other image's, borrowed: the hooks' descriptor 3; -1: none */
	uint64_t timeout_usec; /* for each */
};

/* `tree` is borrowed. */
void hooks_init(int tree);

/*
 * Begins. `done` comes once: with NULL when all have ended well, or with the sentence that says
 * which has not and why. 0, or negative errno with text: then nothing comes. What a run before (in
 * another life of PID 1, perhaps) has left is killed first.
 */
int hooks_begin(const struct hooks_request *q, void (*done)(const char *failure), struct error *e);
/* Kills them; done() does not come. Does nothing if none run. */
void hooks_cancel(void);
/* Kills what another life of PID 1 has begun and nobody waits for any more. */
void hooks_kill_left_over(void);

#endif
