/* SPDX-License-Identifier: MIT */
/*
 * The commands that every init has: telinit, shutdown, reboot, halt and poweroff, as links to
 * initctl or behind its name, with the options that sysvinit and systemd give them.
 */
#ifndef MOLT_INITCTL_LEGACY_H
#define MOLT_INITCTL_LEGACY_H

#include <stdbool.h>

/* False: it is none of them. *ret_code: the exit code. */
bool legacy_run(int argc, char **argv, int *ret_code);

int run_shutdown(int argc, char **argv);
int run_telinit(int argc, char **argv);
/* The name (argv[0]) says what is done unless an option does. */
int run_halt_reboot_poweroff(int argc, char **argv);

/* Sends it, complains of an answer that is not "ok", and returns the exit code. */
struct request;
int legacy_ask(const struct request *q);
/* "root", "joe (tty1)": who runs this, for the people who are told. Static. */
const char *legacy_by(void);

#endif
