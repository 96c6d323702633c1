/* SPDX-License-Identifier: MIT */
/*
 * What fstab(5) names and whose device had not come when the boot had waited for it long enough: it
 * is mounted (or swapped on) as soon as its device appears, in a system that runs. Services with
 * RequiresMountsFor= wait for that.
 *
 * A line is late only if the boot has said so: what somebody has unmounted is not mounted again.
 * PID 1 listens to what happens below /dev and to uevents, and looks by a child for each line,
 * which lives in the tree: an upgrade freezes it like any other process.
 */
#ifndef MOLT_INIT_LATE_MOUNTS_H
#define MOLT_INIT_LATE_MOUNTS_H

#include <stdbool.h>

#include "conf/record.h"

/* More are not mounted later. */
#define LATE_MOUNTS_MAX 64

/* The stage of the boot that waits for devices: before its child, in it, and after it. */
void late_mounts_prepare(void);
void late_mounts_note(const char *source, const char *target);
void late_mounts_take(bool wanted);

/* Whether a line of fstab needs one of the others: its place, or what is mounted there, lies below
 * that one's. In the stage of the boot, and in that which mounts. */
bool late_mounts_are_below(const char *source, const char *target);
/* The system runs: looks, and again when something appears. */
void late_mounts_begin(void);
/* Somebody wants what may wait for one: looks again, also at those that could not be mounted. */
void late_mounts_retry(void);

void late_mounts_save(struct record_writer *w); /* records of kind "late" */
void late_mounts_load(const struct record *r);
void late_mounts_resume(void);
/* While the stage is under way, fields of the boot's record. */
void late_mounts_save_stage(struct record_writer *w);
void late_mounts_load_stage(const struct record *r);
void late_mounts_each_fd(int (*visit)(int fd));

#endif
