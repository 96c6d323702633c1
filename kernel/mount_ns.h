/* SPDX-License-Identifier: MIT */
/*
 * Mount namespaces of other processes: mount_namespaces(7), setns(2). PID 1 looks at them and holds
 * descriptors; only its children enter one, for PID 1 shares its fs struct with the helpers of the
 * kernel (modprobe, core dumps), which would follow it.
 */
#ifndef MOLT_KERNEL_MOUNT_NS_H
#define MOLT_KERNEL_MOUNT_NS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Which one task `tid` is in: the inode number that /proc/TID/ns/mnt has. 0 or negative errno;
 * -ENOENT, -ESRCH: it has gone. */
int mount_ns_id(pid_t tid, uint64_t *ret_id);
/* A descriptor that keeps it alive, or negative errno. */
int mount_ns_open(pid_t tid);
/* Whether its owner is the caller's own user namespace (ioctl_ns(2)): in any other, what was copied
 * into it is locked and can be neither moved nor unmounted. 0 or negative errno. */
int mount_ns_is_ours(int fd, bool *ret);

/* For a child alone: enters it; its root and working directory are that namespace's root then. 0 or
 * negative errno. */
int mount_ns_enter(int fd);

#endif
