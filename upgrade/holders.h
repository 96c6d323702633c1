/* SPDX-License-Identifier: MIT */
/*
 * Who references an image: for each process of the tree what it has of it. A reference is told by
 * the mount it lies on, never by its path; where the kernel names only the file system (sockets,
 * watches), by what the path leads to as well.
 *
 * Two depths. holders_scan() is for the blackout: the directories that are to be exchanged (and if
 * need be holders_find_writers(): who writes). holders_look() is for people, in a child that may
 * take its time: everything.
 */
#ifndef MOLT_UPGRADE_HOLDERS_H
#define MOLT_UPGRADE_HOLDERS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"

enum held {
	HELD_ROOT, /* a root below the image's: a chroot jail */
	HELD_CWD,
	HELD_DIRFD,
	HELD_FILE,
	HELD_EXE,
	HELD_MAP, /* a file in its memory */
	HELD_SOCKET, /* a unix socket bound to a file of the image */
	HELD_WATCH, /* a mark of inotify or fanotify; it does not keep the image in use */
	HELD_RING, /* a file registered with io_uring */
	HELD_NAMESPACE, /* a mount name space whose root is a copy of the image's mount */
	HELD_MOUNT, /* a part of the image that is mounted somewhere */
	HELD_QUEUED, /* descriptors on their way in a socket: of what, the kernel does not tell */
};

/* More of them nobody reads, and no blackout can exchange. */
#define HOLDERS_MAX 20000

/* holder.image of what may or may not be of an image. */
#define HOLDERS_NO_IMAGE UINT_MAX

struct holder {
	pid_t pid; /* 0: nobody in sight */
	pid_t tid; /* the thread it was found in: another one only where it has an fs struct or a
		      descriptor table of its own */
	enum held what;
	int fd; /* of a descriptor; else -1 */
	int flags; /* of that descriptor: O_ACCMODE, O_PATH, O_CLOEXEC */
	int64_t offset;
	bool deleted; /* it has no name any more */
	bool shared; /* HELD_MAP: what it writes there is written to the file */
	bool reachable; /* HELD_SOCKET: clients come to it by its name */
	bool of_init; /* HELD_SOCKET: PID 1 holds it too, for a service */
	unsigned more; /* as many alike of the same process are not listed; HELD_QUEUED: how many */
	char *path; /* on the image, as PID 1 sees it; HELD_MOUNT: where it is mounted */
	char *part; /* HELD_MOUNT: what of the image that is; else NULL */
	char *cgroup; /* of the process, relative to the tree */
	bool outside; /* of the tree: system storage, which nothing freezes and nothing migrates */
	unsigned image; /* which of the mounts asked about */
};

/* A descriptor of a namespace of any kind: one of each that holders_scan() came across. */
struct held_namespace {
	pid_t tid;
	int fd;
	uint64_t id; /* its inode number */
};

struct listeners;

struct holders {
	struct held_namespace *namespaces;
	size_t n_namespaces;
	struct holder *list;
	size_t count;
	size_t capacity;
	size_t n_processes; /* looked at */
	size_t n_more; /* found and not listed, since there are too many */
	size_t n_files; /* files open, that holders_scan() only counts */
};

/*
 * The scan of the blackout: appends the directories that processes of the tree have on one of n
 * mounts, and counts the files they have open there. A root or cwd that is exactly the image's root
 * is left out: pivot_root(2) takes care of those. What exits meanwhile holds nothing. 0 or negative
 * errno with text; -E2BIG: more than can be dealt with.
 * `listeners` (listeners.h; NULL: none): its sockets are added as well. -ESTALE: somebody is in a
 * network name space that was not asked for them. -ETIMEDOUT: past the deadline.
 */
int holders_scan(struct holders *h, int tree, const uint64_t *mounts, unsigned n,
	struct listeners *listeners, uint64_t deadline_usec, struct error *e);

/*
 * Who writes, also for the blackout: files open for writing, or mapped shared and from such.
 * *ret_latent: somebody has a file only mapped that was opened for writing, and cannot write to it.
 */
int holders_find_writers(struct holders *h, bool *ret_latent, int tree, const uint64_t *mounts,
	unsigned n, uint64_t deadline_usec, struct error *e);

/* One image to be looked for. */
struct holders_image {
	uint64_t mount; /* its id */
	int root; /* O_PATH */
	const char *base; /* its root in its file system; NULL: not known */
	bool is_root; /* it is "/" */
	const uint64_t *copies; /* ids of its mounts in other mount name spaces, as far as known */
	size_t n_copies;
};

/*
 * The look for people: every kind of reference. Alike references of one process are counted past
 * the first few. `init`: the process that is PID 1, whose sockets are looked for too. For a child:
 * it enters network name spaces.
 */
int holders_look(struct holders *h, int tree, const struct holders_image *images, unsigned n,
	pid_t init, struct error *e);

void holders_free(struct holders *h);

const char *held_name(enum held what); /* as in conf/protocol.h: "root", "cwd", ... */
/* Whether it can be exchanged for its like of another image: a directory. */
bool held_is_directory(enum held what);
/* Something that would lose what is written to it: a file open for writing, or mapped so. */
bool holder_is_writer(const struct holder *h);
/* "nginx.service" of "nginx.service/3/worker"; the caller's buffer. */
void holder_unit(const struct holder *h, char *buf, size_t size);

#endif
