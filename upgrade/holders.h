/* SPDX-License-Identifier: MIT */
/*
 * Who references an image: for each process of the tree its root, cwd and open descriptors, and
 * (asked for by a person, not in the blackout) its exe. A reference is told by the mount it lies
 * on, never by its path.
 */
#ifndef MOLT_UPGRADE_HOLDERS_H
#define MOLT_UPGRADE_HOLDERS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

enum held { HELD_ROOT, HELD_CWD, HELD_DIRFD, HELD_FILE, HELD_EXE };

struct holder {
	pid_t pid;
	pid_t tid; /* the thread it was found in: another one only where it has an fs struct or a
		      descriptor table of its own */
	enum held what;
	int fd; /* HELD_DIRFD, HELD_FILE; else -1 */
	int flags; /* of that descriptor: O_ACCMODE, O_PATH, O_CLOEXEC */
	int64_t offset;
	bool deleted; /* it has no name any more */
	char *path; /* on the image, as PID 1 sees it */
	char *cgroup; /* of the process, relative to the tree */
	unsigned image; /* which of the mounts asked about */
};

struct holders {
	struct holder *list;
	size_t count;
	size_t capacity;
	size_t n_processes; /* looked at */
};

/*
 * Scans every process in `tree` for references to one of n mounts and appends them. A root or cwd
 * that is exactly the image's root is left out when `below_only`: pivot_root(2) takes care of
 * those. `with_exe` adds the executables. What exits meanwhile holds nothing. 0 or negative errno
 * with text.
 */
int holders_scan(struct holders *h, int tree, const uint64_t *mounts, unsigned n, bool below_only,
	bool with_exe, struct error *e);
void holders_free(struct holders *h);

const char *held_name(enum held what); /* "root", "cwd", "dirfd", "file", "exe" */
/* An open file that would lose what is written to it. */
bool holder_is_writer(const struct holder *h);
/* "nginx.service" of "nginx.service/3/worker"; the caller's buffer. */
void holder_unit(const struct holder *h, char *buf, size_t size);

#endif
