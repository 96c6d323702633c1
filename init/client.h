/* SPDX-License-Identifier: MIT */
/*
 * One client of the control socket: its request, and the answers that it has not read yet. What the
 * rest of init/ may do with it is in control.h; this is for control.c alone.
 */
#ifndef MOLT_INIT_CLIENT_H
#define MOLT_INIT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "init/control.h"
#include "kernel/loop.h"
#include "kernel/util.h"

/* One that does not read its answer would hold a place for ever. */
#define CLIENT_READ_USEC (30 * USEC_PER_SEC)

struct packet {
	struct packet *next;
	size_t length;
	char text[];
};

struct client {
	struct client *next;
	int fd;
	uid_t uid;
	struct loop_source source;
	struct loop_timer timer;
	struct packet *queue, **queue_end;
	size_t queued_bytes;
	bool asked; /* its request is being answered */
	bool upgrade; /* it waits for the end of an upgrade */
	bool finished; /* its result is sent or queued */
	char verb[16]; /* what it waits for a service to have done; "" */
	char unit[256];
};

/* All there are, one after the other, from NULL to NULL. */
struct client *client_next(const struct client *after);
/* Takes over fd. NULL, with fd still the caller's: there is no room, or no memory. */
struct client *client_add(int fd, uid_t uid);
/* What it will get once it reads. 0 or negative errno. */
int client_enqueue(struct client *c, const char *text, size_t length);

#endif
