/* SPDX-License-Identifier: MIT */
/* Whether the machine runs on mains power or on its battery. */
#ifndef MOLT_KERNEL_POWER_SUPPLY_H
#define MOLT_KERNEL_POWER_SUPPLY_H

#include <stdbool.h>

/*
 * Looks through a directory such as /sys/class/power_supply. Mains or USB power that is online is
 * mains power; one that is not, or a battery of the machine (not of its mouse) that discharges, is
 * none; without all of these it is mains power, and so it is where there is no such directory.
 */
bool power_supply_is_mains(const char *directory);

#endif
