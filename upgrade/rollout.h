/* SPDX-License-Identifier: MIT */
/* All services onto an image, each by its policy, in dependency order; what does not depend on each
 * other goes at once. */
#ifndef MOLT_UPGRADE_ROLLOUT_H
#define MOLT_UPGRADE_ROLLOUT_H

#include <stdbool.h>
#include <stdint.h>

struct service;

struct rollout_hooks {
	void (*rolled)(const struct service *s); /* one is there, or has failed (roll.state) */
	void (*done)(
		const struct service *failed); /* all have ended; the first that failed, or NULL */
};

/*
 * Begins. `stop_on_failure`, which is the way forward: after a failure nothing further is begun,
 * and done() comes once what was begun has ended. The way back instead also starts again what ran
 * when the way forward began and does no more.
 */
void rollout_begin(uint64_t target_mount, bool stop_on_failure, const struct rollout_hooks *hooks);
/* What runs now is what the way back starts again if it does no more, whatever ran before. */
void rollout_take_stock(void);
/* Takes up, after an exec, what the services' own states say is under way. */
void rollout_resume(uint64_t target_mount, bool stop_on_failure, const struct rollout_hooks *hooks);
/* Gives up on all that is under way and undoes what is half done. done() does not come. */
void rollout_abort(void);

#endif
