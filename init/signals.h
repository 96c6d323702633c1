/* SPDX-License-Identifier: MIT */
/* Signals to PID 1, through a signalfd: SIGCHLD reaps, SIGINT is Ctrl-Alt-Del, the rest as in
 * molt(8). */
#ifndef MOLT_INIT_SIGNALS_H
#define MOLT_INIT_SIGNALS_H

#include "kernel/error.h"

/* Blocks them all and watches the descriptor. */
int signals_open(struct error *e);
/* Children may have ended while nobody watched: looks at the next turn. */
void signals_reap(void);

#endif
