/* SPDX-License-Identifier: MIT */
/*
 * What keeps a mount namespace without a process in it: a bind mount of it (`unshare --mount=FILE`,
 * as container tools and snapd do), or a descriptor. Who enters it later shall find the new image
 * there like everybody else.
 */
#ifndef MOLT_UPGRADE_PINS_H
#define MOLT_UPGRADE_PINS_H

#include <stdint.h>
#include <sys/types.h>

#include "kernel/error.h"
#include "kernel/proc.h"

/* Something found: id as of mount_ns_id(). Stops at the first non-zero return and gives it back. */
typedef int (*pin_mount_found)(uint64_t id, const char *path, void *userdata);
typedef int (*pin_descriptor_found)(uint64_t id, pid_t tid, int fd, void *userdata);

/* To be called once, before anything is frozen. 0 or negative errno. */
int pins_init(void);

/* The bind mounts in the namespace that `watch` (mount_watch_open()) is of. */
int pins_of_mounts(int watch, pin_mount_found found, void *userdata, struct error *e);
/* The descriptors of one task; what has ended has none. */
int pins_of_task(pid_t tid, pin_descriptor_found found, void *userdata);

/* Whether a descriptor that proc_fds() tells of may be one. For all kinds of namespaces: which it
 * is, pin_is_mount_ns() asks. */
bool pin_is_namespace(const struct proc_fd *fd);
bool pin_is_mount_ns(pid_t tid, int fd);

/*
 * Opens the namespace `id`: through a descriptor of a task, or a path of the caller's namespace
 * (for a child: the path may lead anywhere), with the caller's own /proc as a descriptor. A
 * descriptor or negative errno; -ESTALE: it is another one, or none, now.
 */
int pin_open_descriptor(pid_t tid, int fd, uint64_t id);
int pin_open_mount(int proc, const char *path, uint64_t id);

#endif
