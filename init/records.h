/* SPDX-License-Identifier: MIT */
/* The boot and the shutdown in utmp(5) and wtmp(5): in a container only where these files are. */
#ifndef MOLT_INIT_RECORDS_H
#define MOLT_INIT_RECORDS_H

int records_note_boot(void); /* for the child of a stage: its exit code */
/* By a child, which nobody waits for. */
void records_note_running(void);
void records_note_single(void);
void records_note_shutdown(void);

#endif
