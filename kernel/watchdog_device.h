/* SPDX-License-Identifier: MIT */
/* The hardware watchdog: Documentation/watchdog/watchdog-api.rst. Once open it resets the machine
 * unless it is pinged in time; closed without watchdog_device_disarm() it stays armed. */
#ifndef MOLT_KERNEL_WATCHDOG_DEVICE_H
#define MOLT_KERNEL_WATCHDOG_DEVICE_H

#include <stdint.h>

/* Opens, and so arms it. The descriptor (O_CLOEXEC) or negative errno; -EBUSY: another has it. */
int watchdog_device_open(const char *path);
/* Asks for a timeout (whole seconds, rounded up). What it is now, which may be another; 0: the
 * device does not say. */
uint64_t watchdog_device_set(int fd, uint64_t usec);
int watchdog_device_ping(int fd); /* 0 or negative errno */
/* Switches it off as far as the driver lets itself ("nowayout" does not), and closes it. */
void watchdog_device_disarm(int fd);

#endif
