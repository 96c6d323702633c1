/* SPDX-License-Identifier: MIT */
/* What the two depths of looking for holders share. */
#ifndef MOLT_UPGRADE_HOLDERS_INTERNAL_H
#define MOLT_UPGRADE_HOLDERS_INTERNAL_H

#include "kernel/proc.h"
#include "upgrade/holders.h"

struct scan;

/* Of one process and kind: what comes after is told as "and N more". */
#define ALIKE_MAX 8

/* What is looked at beyond links and descriptors that lie on the mounts; NULL: nothing. */
struct scan_depth {
	int (*begin)(struct scan *s); /* once for each process, before the rest: of `tid` */
	int (*process)(struct scan *s); /* and after it */
	int (*fd)(struct scan *s, const struct proc_fd *fd); /* what lies on none of the mounts */
	bool only_writers; /* nothing but files that are open for writing */
	unsigned alike_max; /* of one process; what comes after is counted; 0: no bound */
};

/* Tables of more descriptors than that are compared: processes may share one, and each would cost
 * as much again. */
#define TABLE_LARGE 1024
#define TABLES_MAX 64

struct scan {
	struct holders *out;
	const struct scan_depth *depth;
	const uint64_t *mounts;
	unsigned n_mounts;
	bool outside; /* what is scanned is not the tree */
	const unsigned *images; /* which image each of the mounts is of; NULL: it is its own */
	bool with_root; /* also a root or cwd that is exactly the image's */
	const char *cgroup;
	pid_t pid, tid;
	struct listeners *listeners; /* look for its sockets as well; NULL: no */
	void *userdata; /* the depth's */
	uint64_t deadline_usec; /* 0: none */
	size_t n_fds; /* of the table, so far */
	pid_t tables[TABLES_MAX]; /* whose large ones were looked at, in this cgroup */
	size_t n_tables;
};

int scan_tree(struct scan *s, int tree, struct error *e);

/* Which of the mounts that is; false: none. */
bool scan_image(const struct scan *s, uint64_t mount_id, unsigned *ret);

/*
 * Appends a holder of that process. *ret (may be NULL) is the new one; NULL where it is one too
 * many of its kind and was only counted. 0 or -ENOMEM, -E2BIG.
 */
int scan_add(struct scan *s, const struct holder *like, const char *path, struct holder **ret);
/* The same of a symbolic link of /proc/TID, if it leads to one of the mounts. */
int scan_link(struct scan *s, const char *link, enum held what);

/* ---- holders_sockets.c: which sockets are bound on the images ---- */

struct bound_sockets;

/*
 * All of the caller's network name space, and of those of the tree's processes. `init` is PID 1.
 * *ret is the caller's. A kernel without sock_diag has none. 0 or negative errno with text.
 */
int bound_sockets_read(struct bound_sockets **ret, int tree, const struct holders_image *images,
	unsigned n, pid_t init, struct error *e);
void bound_sockets_free(struct bound_sockets *b);

/* Adds a holder if that socket (by its inode) is one of them. */
int bound_sockets_add(struct bound_sockets *b, struct scan *s, uint64_t inode, int fd);
/* Adds those that nobody of the tree was found to hold. */
int bound_sockets_add_rest(struct bound_sockets *b, struct scan *s, pid_t init);

/* ---- holders_mounts.c: parts of the images that are mounted somewhere ---- */

struct image_mounts;

/* Adds those in the caller's mount name space, as nobody's. *ret is the caller's. 0 or negative
 * errno with text. */
int image_mounts_new(struct image_mounts **ret, struct scan *s, const struct holders_image *images,
	unsigned n, struct error *e);
/* Adds those in the name space of the process that is scanned, if it is the first in it. */
int image_mounts_add(struct image_mounts *im, struct scan *s, ino_t namespace);
void image_mounts_free(struct image_mounts *im); /* NULL is fine */

#endif
