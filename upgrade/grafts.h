/* SPDX-License-Identifier: MIT */
/*
 * Grafts: files and directories of the state directory, mounted over those of a read-only image
 * (carry.h). They belong to that image: they are put onto its root before it becomes "/", stay on
 * it when the next one does, and go with it. Known by where they stand and from which file system,
 * not by mount id: another mount namespace has copies of them.
 */
#ifndef MOLT_UPGRADE_GRAFTS_H
#define MOLT_UPGRADE_GRAFTS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/record.h"
#include "kernel/error.h"

/* Of one image; more are refused (carry.h). */
#define GRAFTS_MAX 128

/* The judging child has prepared one: `mount` is detached, and taken over. 0 or negative errno. */
int grafts_add(const char *path, int mount);
bool grafts_waiting(void);
/* Closes those that were not planted. Their file system stays mounted, with the state directory. */
void grafts_discard(void);
/*
 * Puts those that wait onto `root`, which has to be mounted in the caller's namespace: from now on
 * they are the grafts of that generation. On failure none waits any more, and what was planted
 * goes with the root. 0 or negative errno with text.
 */
int grafts_plant(unsigned generation, int root, struct error *e);

/* Whether a mount at `target`, of the file system `dev`, is one that this generation's root has. */
bool grafts_has(unsigned generation, const char *target, uint64_t dev);
/* That root is gone. */
void grafts_forget(unsigned generation);

/* The number of the file system that a mount of it has in the mount table: for a subvolume of btrfs
 * stat(2) gives another one. */
uint64_t graft_dev(int mount);

/* What a child has planted by itself, at boot: it writes records of kind "graft" to a file. */
void grafts_write(struct record_writer *w, const char *path, uint64_t dev);
/* Reads them; they are of that generation. How many there were. */
unsigned grafts_read(unsigned generation, int fd);

void grafts_save(struct record_writer *w); /* fields of the upgrade's record */
int grafts_load(const struct record *r, struct error *e);

#endif
