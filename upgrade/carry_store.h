/* SPDX-License-Identifier: MIT */
/*
 * CarryDirectory=: what is carried over read-only images (carry.h) lies there, each file under its
 * path. What lies there is this machine's, also where the running image has something else in that
 * place and nobody sees it: it is what the next boot mounts.
 */
#ifndef MOLT_UPGRADE_CARRY_STORE_H
#define MOLT_UPGRADE_CARRY_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "kernel/error.h"
#include "kernel/mounts.h"

/* 0, or negative errno with text: it does not come along to the new image, since it lies on the
 * running one or on the mount `leave` ("": none), or it cannot be written to. It, or some of the
 * way to it, may be missing. */
int carry_store_check(const char *directory, const struct mount_table *mounts, uint64_t root_mount,
	const char *leave, struct error *e);
/* Opened, the caller's; -1: there is none. */
int carry_store_open(const char *directory);
/* Makes it where it is missing. The descriptor, or negative errno with text. */
int carry_store_make(const char *directory, struct error *e);

/* Whether there is a file or directory for that path; its facts go to *ret, which may be NULL. */
bool carry_store_has(int store, const char *path, struct stat *ret);
/* A detached mount of it, the caller's; or negative errno with text. */
int carry_store_clone(int store, const char *path, struct error *e);

#endif
