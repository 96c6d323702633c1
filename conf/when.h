/* SPDX-License-Identifier: MIT */
/* When a shutdown is to be, as shutdown(8) is told, and when people hear of it. */
#ifndef MOLT_CONF_WHEN_H
#define MOLT_CONF_WHEN_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* People may not log in any more that long before. */
#define WHEN_NOLOGIN_USEC (5 * 60 * UINT64_C(1000000))

struct when {
	bool at; /* usec is since 1970; else from now on */
	uint64_t usec;
};

/*
 * "now", "+MINUTES", or "HH:MM" of the local time: the next one after `now`. 0, or -EINVAL where it
 * is none of these (also past a year).
 */
int when_parse(const char *text, time_t now, struct when *ret);

/* With that much time left: how much is left when people are to be told the next time. Each hour,
 * half hour, ten minutes, and of the last ten minutes each; 0: when it is over. */
uint64_t when_to_tell(uint64_t left_usec);

#endif
