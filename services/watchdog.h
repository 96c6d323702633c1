/* SPDX-License-Identifier: MIT */
/*
 * WatchdogSec=: a service that has become ready must say WATCHDOG=1 at least that often, or it is
 * ended and restarted as Restart= says (sd_watchdog_enabled(3)). Nothing counts against a service
 * while it is frozen, or on its way onto another image.
 */
#ifndef MOLT_SERVICES_WATCHDOG_H
#define MOLT_SERVICES_WATCHDOG_H

#include "services/service.h"

void watchdog_init(struct service *s); /* from service_new() */
void watchdog_reset(struct service *s); /* a new start: as its file says, and not running yet */
void watchdog_stop(struct service *s);
/* Gives it its whole time again, if it has a watchdog and is up. */
void watchdog_rearm(struct service *s);
/* All of them: after a time that was not theirs. */
void watchdog_rearm_all(void);
/* WATCHDOG_USEC= */
void watchdog_set(struct service *s, uint64_t usec);

#endif
