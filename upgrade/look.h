/* SPDX-License-Identifier: MIT */
/*
 * Looking who holds older images, in a child of PID 1: it takes as long as there are processes. The
 * child answers with the records for the client (conf/protocol.h, kind "holder").
 */
#ifndef MOLT_UPGRADE_LOOK_H
#define MOLT_UPGRADE_LOOK_H

#include <stdbool.h>
#include <stddef.h>

#include "upgrade/holders.h"

struct look_image {
	unsigned generation;
	struct holders_image image;
};

struct look_hooks {
	/* A record for whoever asked. `generation`: it is a holder of that one; else 0. */
	void (*record)(unsigned id, unsigned generation, const char *text, size_t length);
	/* The end. `why`: why not everything could be looked at; NULL: it was. */
	void (*done)(unsigned id, const char *why);
};

/*
 * Begins; the hooks, which must stay, are called with `id`. 0 or negative errno with text: then
 * nothing comes. -EBUSY: several are under way.
 */
int look_begin(unsigned id, int tree, const struct look_image *images, unsigned n,
	const struct look_hooks *hooks, struct error *e);
/* Ends all that are under way, without a word. */
void look_cancel_all(void);

#endif
