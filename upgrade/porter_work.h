/* SPDX-License-Identifier: MIT */
/* What the porter (porter.h) does in the namespaces: in the child alone. */
#ifndef MOLT_UPGRADE_PORTER_WORK_H
#define MOLT_UPGRADE_PORTER_WORK_H

#include "kernel/error.h"
#include "upgrade/namespaces.h"

enum porter_order { PORTER_PIVOT = 1, PORTER_UNDO, PORTER_SETTLE };

/* Opens what PID 1 has not: the places on the new roots. What fails is tried again when needed. */
void porter_work_prepare(const struct namespaces *n);

/*
 * Carries out an order in every namespace to be swapped. PORTER_PIVOT that fails takes back what it
 * has done; the others do what they can, may be repeated, and go on from what another child has
 * left. 0 or negative errno with text.
 */
int porter_work(const struct namespaces *n, enum porter_order order, struct error *e);

#endif
