/* SPDX-License-Identifier: MIT */
/* What the kernel and udev say of devices on a netlink socket (NETLINK_KOBJECT_UEVENT): the one
 * puts a line "add@/devices/..." in front, the other a header of its own; properties, each ended by
 * a NUL, follow in both. */
#ifndef MOLT_CONF_UEVENT_H
#define MOLT_CONF_UEVENT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether a message is about a disk, or a part of one. */
bool uevent_is_of_disk(const char *message, size_t length);

#endif
