/* SPDX-License-Identifier: MIT */
/* Processes of the tree that are not of services which stay: sessions, what a service has left
 * behind, services that do not end. For who wants all of them gone, and the others not touched. */
#ifndef MOLT_INIT_STRAGGLERS_H
#define MOLT_INIT_STRAGGLERS_H

#include <stdbool.h>

#include "services/service.h"

/* Says which services stay; until the next call of it. */
void stragglers_spare(bool (*stays)(const struct service *s));

bool stragglers_are_left(void);
/* A signal to each of them; SIGKILL also to those that are being forked. */
void stragglers_signal(int signal);
/* Who they are, on the console and in the log; `killed`: they were sent SIGKILL. */
void stragglers_name(bool killed);

/* Calls `gone` whenever one of their cgroups has become empty, until stragglers_forget(). Those
 * that come later are not watched. */
void stragglers_watch(void (*gone)(void));
void stragglers_forget(void);

#endif
