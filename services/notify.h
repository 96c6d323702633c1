/* SPDX-License-Identifier: MIT */
/* The socket of sd_notify(3): datagrams of KEY=value lines, believed only from a service's own
 * cgroup. What they do is in notified.c. */
#ifndef MOLT_SERVICES_NOTIFY_H
#define MOLT_SERVICES_NOTIFY_H

#include "kernel/error.h"

#define NOTIFY_SOCKET_PATH "/run/molt/notify"

/* Opens it at NOTIFY_SOCKET_PATH and watches it. */
int notify_open(struct error *e);
/* Takes up a socket that an exec carried over. */
int notify_adopt(int fd, struct error *e);
int notify_fd(void); /* -1: not open */

#endif
