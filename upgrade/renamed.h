/* SPDX-License-Identifier: MIT */
/*
 * Mounts that an upgrade had to put elsewhere, because the new image has a symbolic link where they
 * were (place.h): the way back puts them where they came from. Known by their mount ids, which are
 * the same over all namespaces.
 */
#ifndef MOLT_UPGRADE_RENAMED_H
#define MOLT_UPGRADE_RENAMED_H

#include <stdint.h>

#include "conf/record.h"
#include "kernel/error.h"
#include "upgrade/pivot.h"

/* Those of a pivot that was made: where they were on `generation`'s root. */
void renamed_add(unsigned generation, const struct pivot *p);
/* Where that mount, which is at `now`, was on that root. Borrowed; NULL: there, too. */
const char *renamed_from(unsigned generation, uint64_t mount_id, const char *now);
/* That root is not gone back to. */
void renamed_forget(unsigned generation);

void renamed_save(struct record_writer *w); /* fields of the upgrade's record */
int renamed_load(const struct record *r, struct error *e);

#endif
