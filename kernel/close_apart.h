/* SPDX-License-Identifier: MIT */
/*
 * Closing what may be the last of a file system, without waiting for it. Whoever drops the last
 * reference to a mount unmounts its file system, and writes all that is not on disk yet, before the
 * call returns: on a slow disk for minutes, on one that hangs for ever. So a child holds one more
 * until the caller's is closed, and does the waiting.
 */
#ifndef MOLT_KERNEL_CLOSE_APART_H
#define MOLT_KERNEL_CLOSE_APART_H

/*
 * Like fd_close() (kernel/util.h): closes fd if >= 0, returns -1, keeps errno. Does not wait for
 * what follows from it, and nobody is told when that is done; the child is buried as a stranger is
 * (process_reap_all()). Where there is no child to be had it is closed here.
 */
int fd_close_apart(int fd);

#endif
