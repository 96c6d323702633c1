/* SPDX-License-Identifier: MIT */
/*
 * Old roots of other mount namespaces, unmounted at the end of a pivot: what a process holds on one
 * of them and could not be given from the new image is still there. A rollback gives it the same of
 * the namespace's new mount of the old image; after a commit they are watched like any old root.
 * One that nobody holds is forgotten.
 */
#ifndef MOLT_UPGRADE_STRAYS_H
#define MOLT_UPGRADE_STRAYS_H

#include "conf/record.h"
#include "kernel/error.h"
#include "upgrade/namespaces.h"

/* `tree` is borrowed. */
void strays_init(int tree);

/* The old roots of what was pivoted, of that generation; their descriptors are taken out of n. */
void strays_add(struct namespaces *n, unsigned generation);

/* Their mount ids, each with the new root of the namespace it was the root of, as far as that is to
 * be pivoted again: how many there are (`ids` may be NULL: only that). The roots stay borrowed. */
size_t strays_roots(const struct namespaces *n, uint64_t *ids, int *new_roots);

/* That generation is not gone back to: to generations.h with its strays. */
void strays_let_go(unsigned generation);

void strays_save(struct record_writer *w); /* fields of the upgrade's record */
int strays_load(const struct record *r, struct error *e);
void strays_each_fd(int (*visit)(int fd));

#endif
