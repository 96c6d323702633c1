/* SPDX-License-Identifier: MIT */
/*
 * The plan as told to a person: what would be moved, what becomes of each service and each holder,
 * and what forbids it. The decisions are pure (plan_holder_action), the telling is the judging
 * child's (image.h).
 */
#ifndef MOLT_UPGRADE_PLAN_H
#define MOLT_UPGRADE_PLAN_H

#include "conf/record.h"
#include "conf/unit.h"
#include "upgrade/holders.h"
#include "upgrade/image.h"

enum holder_action {
	ACTION_MIGRATE, /* given the same directory of the new image in the blackout */
	ACTION_REPLACE, /* its process is replaced by the service's policy */
	ACTION_STAYS, /* goes on holding the old image until it ends */
	ACTION_BLOCKS, /* forbids the upgrade */
};

/*
 * What becomes of a holder whose service has that policy; `counterpart`: the new image has such a
 * directory; `reachable`: its process can be injected into.
 */
enum holder_action plan_holder_action(
	const struct holder *h, enum upgrade_policy policy, bool counterpart, bool reachable);

/* In the judging child: each sends its records over `socket`. */
void plan_header(int socket, const struct image_request *q, int root);
int plan_mounts(int socket, int root, const char *leave, struct error *e);
int plan_services(int socket, struct error *e);
int plan_holders(int socket, int tree, int root, struct error *e);

/* One holder as a record of kind "holder"; for plans and for `initctl holders`. */
void plan_write_holder(struct record_writer *w, const struct holder *h, unsigned generation,
	const char *action, const char *advice);
/* What a person can do about a holder that stays. */
void plan_advice(const struct holder *h, char *buf, size_t size);

#endif
