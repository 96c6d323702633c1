/* SPDX-License-Identifier: MIT */
/* The services that manage /dev: which of those that molt ships an image can run. */
#ifndef MOLT_INIT_DEVICES_H
#define MOLT_INIT_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

/* DeviceServices= of init.conf; the list is not the caller's, and ended by a NULL. */
char *const *devices_services(void);
uint64_t devices_limit(void); /* DeviceTimeoutSec= */

/* Of the first manager whose program is there; the empty list: there is none. Pure. */
char *const *devices_choose(bool (*is_there)(const char *program));

#endif
