/* SPDX-License-Identifier: MIT */
/*
 * utmp(5) and wtmp(5), through libc: who is logged in where, and when the machine went up and down.
 * They wait for locks and look up nothing in time that can be relied on: for children of PID 1.
 * Nothing is written where the file is not there.
 */
#ifndef MOLT_KERNEL_UTMP_H
#define MOLT_KERNEL_UTMP_H

#include <stdint.h>

#define UTMP_FILE "/var/run/utmp"
#define WTMP_FILE "/var/log/wtmp"

/* Makes an empty one, of group utmp, where its directory can be written to. */
void utmp_make(void);

void utmp_note_boot(void); /* BOOT_TIME: when it began */
void utmp_note_run_level(char level); /* RUN_LVL: '1', '3' */
void utmp_note_shutdown(void); /* to wtmp, as last(1) reads it */

/* `line` is a terminal below /dev; this process is to become a getty there: INIT_PROCESS. */
void utmp_note_getty(const char *line);
/* Who was there last has gone: DEAD_PROCESS. Does nothing if somebody is there already. */
void utmp_note_dead(const char *line);

#endif
