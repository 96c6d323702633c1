/* SPDX-License-Identifier: MIT */
/*
 * PID 1's side of looking at an image: starts the child that judges it (image.h), takes its answers
 * as they come, and does not wait for ever.
 */
#ifndef MOLT_UPGRADE_JUDGE_H
#define MOLT_UPGRADE_JUDGE_H

#include "upgrade/image.h"

struct judgement {
	int image; /* the detached mount of the new root, the caller's; -1: it is unfit */
	char *leave; /* a mount that stays on the old root (pivot.h), the caller's; or NULL */
	char unfit[512]; /* why */
	bool same; /* it is unfit because it is the image that runs: there is nothing to do */
	char blocker[512]; /* the first of what forbids the upgrade unless it is forced */
	unsigned n_blockers;
};

/*
 * Begins. `emit` gets each record that is for the client, `judged` the outcome, once; what it
 * points to is judge's, but for the members said above. 0 or negative errno with text: then nothing
 * comes.
 */
int judge_begin(const struct image_request *request, void (*emit)(const char *text, size_t length),
	void (*judged)(const struct judgement *j), struct error *e);
/* Ends it without an outcome. Does nothing if none is under way. */
void judge_cancel(void);

#endif
