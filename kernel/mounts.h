/* SPDX-License-Identifier: MIT */
/*
 * Mounts by descriptor: the mount table through libmount, and the new mount API (open_tree(2),
 * move_mount(2), mount_setattr(2); Linux 5.12) so that nothing is resolved twice. All act on the
 * mount namespace of the caller. Functions return 0 or a negative errno; those that take a struct
 * error say what failed.
 */
#ifndef MOLT_KERNEL_MOUNTS_H
#define MOLT_KERNEL_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/error.h"

struct mount {
	uint64_t id; /* STATX_MNT_ID, the first column of mountinfo */
	uint64_t parent;
	char *target; /* as seen from the caller's root */
	char *root; /* of the mount in its file system */
	char *fstype;
	char *source;
	uint64_t dev; /* of the file system, major and minor as makedev(3) joins them */
	unsigned long propagation; /* MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE bits */
	uint64_t peers; /* the peer group it is in, 0: none (proc(5): shared:N) */
	uint64_t master; /* the peer group it is a slave of, 0: none (master:N) */
};

struct mount_table {
	struct mount *mounts;
	size_t count;
};

/*
 * Where proc is, for a child that enters a mount namespace (mount_ns.h), which may have none: a
 * descriptor of it, borrowed. Before, it is /proc.
 */
void mount_proc_at(int proc);

/* Reads /proc/self/mountinfo. *ret is the caller's, mount_table_free(). */
int mount_table_read(struct mount_table *ret, struct error *e);
/* The same from a descriptor of mount_watch_open(), of the namespace it was opened in: no matter
 * which the caller is in, or whether a process is left there. */
int mount_table_read_watched(int watch, struct mount_table *ret, struct error *e);
void mount_table_free(struct mount_table *t);
const struct mount *mount_table_find(const struct mount_table *t, uint64_t id);

/*
 * /proc/self/mountinfo opened to be told of changes: mount_watch_changed() says whether the table
 * changed since the descriptor was opened or last asked (poll(2) POLLPRI on mountinfo, proc(5)).
 */
int mount_watch_open(void); /* a descriptor or negative errno */
int mount_watch_changed(int fd); /* 1, 0 or negative errno */

/* Whether the mount that `fd` is the root of lies on a directory, not on a file. Its file system is
 * not asked. */
bool mount_is_directory(int fd);

/* The id of the mount that fd lies on. */
int mount_id_of_fd(int fd, uint64_t *ret_id);
/* The same of a path below dirfd; follows a final symbolic link, triggers no automount. */
int mount_id_at(int dirfd, const char *path, uint64_t *ret_id);

/*
 * A detached, private copy of the mount at `path`, whose root is that directory: what is mounted
 * below is not part of it. Returns a descriptor.
 */
int mount_clone(const char *path, struct error *e);

/*
 * The same of the mount that `fd` is the root of, and with it what is mounted below if `recursive`.
 * `fd` has to be mounted in the caller's namespace (before Linux 6.15 a detached mount cannot be
 * copied). A descriptor or negative errno. Not made private: it is in the groups that its original
 * is in.
 */
int mount_copy(int fd, bool recursive);

/* The same of what `fd` (O_PATH) refers to, a file or a directory. A descriptor or negative errno.
 */
int mount_clone_fd(int fd);

/* Take flags off one mount, or put one on. */
int mount_clear_restrictions(int mount_fd); /* nosuid, nodev, noexec */
int mount_make_read_only(int mount_fd);

/* Moves the mount at `from` (its root; attached or detached) onto the directory or file `to`. */
int mount_move(int from, int to);

/* Changes the propagation (MS_PRIVATE, MS_SHARED, MS_SLAVE) of one mount, not of those below it. */
int mount_set_propagation(int mount_fd, unsigned long propagation);

/*
 * Puts the private mount `to` into the groups that `from`, a mount of the same file system, is in:
 * its peer, and slave of the same master (MOVE_MOUNT_SET_GROUP, Linux 5.15). Both may be in other
 * namespaces.
 */
int mount_join_groups(int from, int to);

/*
 * pivot_root(2) of the mount at `new_root`, which must be mounted on "/" already; what was the root
 * ends up stacked on top of the new one (pivot_root(".", ".")), for the caller to move away.
 */
int mount_pivot(int new_root);

/* A small private tmpfs (mode 0700), not attached anywhere yet: a descriptor of its mount. */
int mount_new_tmpfs(const char *source, const char *size);

/* Lazy unmount of the mount that `fd` is the root of, by the same means. */
int mount_detach(int fd);

/* Lazy unmount of what is mounted at NAME in dirfd. Changes the working directory for a moment, and
 * back to "/". */
int mount_detach_at(int dirfd, const char *name);

#endif
