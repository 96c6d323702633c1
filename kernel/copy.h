/* SPDX-License-Identifier: MIT */
/*
 * Copying files with everything that is theirs: content, owner, mode, times, extended attributes
 * (ACLs, capabilities, SELinux labels where they can be had); directories with all below, symbolic
 * links as links. By descriptor: no path is resolved but those of entries in directories that are
 * open. May take long: for children of PID 1.
 */
#ifndef MOLT_KERNEL_COPY_H
#define MOLT_KERNEL_COPY_H

#include <stdint.h>
#include <sys/stat.h>

#include "kernel/error.h"

/* Counted down by what is copied. */
struct copy_budget {
	uint64_t bytes;
	unsigned entries;
};

/*
 * Copies what `from` (O_PATH) refers to as the new entry `name` of the directory `to`; `path` is
 * what messages call it. Nothing is synced. What is neither file, directory nor link is -EINVAL, a
 * file that does not stop changing -EBUSY, one past the budget -EFBIG, all with text. After a
 * failure a part of it may be there: copy_remove().
 */
int copy_entry(int from, int to, const char *name, const char *path, struct copy_budget *budget,
	struct error *e);

/* Owner, mode, times and attributes of one for the other (O_PATH both). */
int copy_metadata(int from, int to, const struct stat *st, const char *path, struct error *e);

/* Empties a directory. 0 or negative errno. */
int copy_remove_children(int dir);

/* Removes an entry, with what is below. 0 or negative errno; there being none is 0. */
int copy_remove(int dir, const char *name);

#endif
