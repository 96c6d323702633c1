/* SPDX-License-Identifier: MIT */
/* The listening sockets that PID 1 holds for a service: opened once, kept over restarts, upgrades
 * and re-execs. */
#ifndef MOLT_SERVICES_LISTEN_H
#define MOLT_SERVICES_LISTEN_H

#include "services/service.h"

/*
 * Opens what [Socket] names and is not open yet; closes what it no longer names, and removes its
 * file. On the way onto another image those are kept until listen_settle(): a rollback needs them,
 * with who waits in them. 0 or negative errno with text.
 */
int listen_open(struct service *s, struct error *e);
/* The transaction is over, one way or the other: closes, of all services, what only the
 * other image names. */
void listen_settle(void);
/* Takes up a socket that an exec carried over. 0 or -ENOMEM. */
int listen_adopt(struct service *s, const char *address, int fd);
void listen_close(struct service *s);

#endif
