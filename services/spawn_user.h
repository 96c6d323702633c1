/* SPDX-License-Identifier: MIT */
/*
 * Who a service runs as, and what is made ready in that name. All of it in the child, where NSS may
 * take its time.
 */
#ifndef MOLT_SERVICES_SPAWN_USER_H
#define MOLT_SERVICES_SPAWN_USER_H

#include "conf/unit.h"
#include "kernel/error.h"

struct identity {
	bool switch_user;
	uid_t uid;
	gid_t gid;
	char name[256]; /* for initgroups; "" where the user is only a number */
	char home[512];
	char shell[256];
};

/* Looks up User= and Group=. 0 or a negative errno with text, as all of these. */
int user_find(const struct unit *u, struct identity *id, struct error *e);
/* RuntimeDirectory= and its like. */
int user_make_directories(const struct unit *u, const struct identity *id, struct error *e);
/* SocketUser=, SocketGroup=: the files of its sockets get their owner, which until then is root. */
int user_own_sockets(const struct unit *u, struct error *e);
/* For good: groups, user, and AmbientCapabilities=. */
int user_become(const struct unit *u, const struct identity *id, struct error *e);

#endif
