/* SPDX-License-Identifier: MIT */
/*
 * Looking at mount namespaces before the freeze: a child enters one after the other, tells whether
 * its root is the image, and if so opens what a pivot needs there and hands it over.
 */
#ifndef MOLT_UPGRADE_SCOUT_H
#define MOLT_UPGRADE_SCOUT_H

#include "upgrade/namespaces.h"

/*
 * Fills in fate, copy and pivot of each. Waits for the child, some seconds at most. 0, or negative
 * errno with text: the child did not answer, or a mount of one of them could not be moved (the text
 * names it and the process).
 */
int scout_run(struct namespaces *n, struct error *e);

#endif
