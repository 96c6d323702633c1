/* SPDX-License-Identifier: MIT */
/*
 * molt as /init of an initramfs: a small life before the first one. It mounts the kernel's file
 * systems, loads modules, waits for the root that the kernel command line names
 * (conf/root_options.h), mounts it and makes way for the root's own init. What goes wrong ends in a
 * root shell that says what was looked for, never in a panic of the kernel.
 *
 * Nobody but this process and its own children is there yet: here PID 1 may wait.
 */
#ifndef MOLT_INIT_INITRAMFS_H
#define MOLT_INIT_INITRAMFS_H

#include <limits.h>
#include <stdbool.h>

#include "conf/root_options.h"

/* Where the root is put together. */
#define INITRAMFS_ROOT "/sysroot"
/* Names to load always, one a line. */
#define INITRAMFS_MODULES "/etc/molt/modules"
/* What is needed to let go of the root on the way down: paths without a slash in front, one a line.
 */
#define INITRAMFS_LEAVE "/etc/molt/leave"
/* When it began: CLOCK_MONOTONIC in microseconds, in the environment of the root's init. */
#define INITRAMFS_USEC "MOLT_INITRAMFS_USEC"

/*
 * Whether that is where PID 1 is: the root is the kernel's rootfs (or a tmpfs or ramfs), with
 * /etc/initrd-release, or molt.initramfs on the kernel command line. Without either an initramfs is
 * a system of its own, which is booted.
 */
bool initramfs_is_here(void);
/* `argv`: of this process; all but the first goes to the root's init. */
void initramfs_run(char **argv) __attribute__((noreturn));

/* initramfs_root.c: waits for the root and mounts all of it, in the order of the options. 0 and the
 * detached mount, or negative errno with a text. */
int initramfs_open_root(const struct root_options *o, int *ret_root, struct error *e);

/* initramfs_choose.c: asks molt-image which image of that directory boots, which counts it. 0 and
 * its path, or negative errno with a text. */
int initramfs_choose(const char *directory, char path[PATH_MAX], struct error *e);

/*
 * initramfs_overlay.c: the detached mount `upper` (-1: a new tmpfs) over the detached mount
 * `lower`; what is written goes to `directory` ("/overlay") of it. 0 and the detached mount of
 * both, or negative errno with a text.
 */
int initramfs_lay_over(int lower, int upper, const char *directory, int *ret_root, struct error *e);
/* Mounts a detached mount on `path`, which is made if it is not there. */
int initramfs_attach(int mount_fd, const char *path, struct error *e);

/* initramfs_wait.c: for a change of the kernel's devices. */
int initramfs_listen(struct error *e); /* a descriptor or negative errno */
/* Whether anything came before the deadline (CLOCK_MONOTONIC); drivers of what came are loaded. */
bool initramfs_wait(int listener, uint64_t deadline_usec);

/* initramfs_switch.c: what is mounted on INITRAMFS_ROOT becomes the root, and its init is executed.
 * Returns only with an error. */
int initramfs_switch(const char *init, char **argv, struct error *e);

/* initramfs_leave.c: copies the files that INITRAMFS_LEAVE names to /run/initramfs, for the way
 * down (initramfs_exit.h). 0, or negative errno with a text; there being no list is 0. */
int initramfs_leave(struct error *e);

/* As /sbin/modprobe, which the kernel calls for what it needs: "modprobe -q -- NAME...". */
int initramfs_modprobe(int argc, char **argv);

#endif
