/* SPDX-License-Identifier: MIT */
/* Older generations that something still holds: released, with a line in the log, when the last
 * holder has gone. */
#ifndef MOLT_UPGRADE_GENERATIONS_H
#define MOLT_UPGRADE_GENERATIONS_H

#include <stdint.h>

#include "conf/record.h"
#include "kernel/error.h"
#include "upgrade/look.h"

void generations_init(int tree);

/*
 * A generation whose root was just unmounted lazily. Takes over `root` (O_PATH): as long as it is
 * open, the mount's id is nobody else's. `base` is its path in its file system, by which parts of
 * it are known that are mounted somewhere; it is copied. NULL: not known.
 */
void generations_add(unsigned generation, uint64_t mount_id, int root, const char *base);

/* Which of them that mount was the root of; 0: none. */
unsigned generations_find(uint64_t mount_id);

/* Forgets all of them: the last that held on to their file systems was this process, which waits
 * until they are written (unless a copy of it holds them as well). */
void generations_let_go(void);

/*
 * Begins to look who holds what; the hooks are called with `id`. `other` (NULL: none) is one more
 * generation to look for: the one that an upgrade not committed yet would go back to.
 */
int generations_report(const struct look_image *other, unsigned id, const struct look_hooks *hooks,
	struct error *e);

void generations_save(struct record_writer *w); /* fields of the upgrade's record */
int generations_load(const struct record *r, struct error *e);
void generations_each_fd(int (*visit)(int fd));
void generations_resume(void);

#endif
