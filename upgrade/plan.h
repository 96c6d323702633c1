/* SPDX-License-Identifier: MIT */
/*
 * The plan as told to a person: what would be moved, what becomes of each service and each holder,
 * and what forbids it. The decisions are pure (plan_action.c), the telling is the judging child's
 * (image.h).
 */
#ifndef MOLT_UPGRADE_PLAN_H
#define MOLT_UPGRADE_PLAN_H

#include "conf/record.h"
#include "conf/unit.h"
#include "services/service.h"
#include "upgrade/holders.h"
#include "upgrade/image.h"

enum holder_action {
	ACTION_MIGRATE, /* given the same directory of the new image in the blackout */
	ACTION_REPLACE, /* gone once the service has got onto the new image, by its policy */
	ACTION_STAYS, /* goes on holding the old image until it ends */
	ACTION_BLOCKS, /* forbids the upgrade */
};

/*
 * What becomes of a holder whose service has that policy (POLICY_KEEP: it is none, or does not
 * run); `counterpart`: the new image has such a directory; `reachable`: its process can be injected
 * into and may do what it is made to.
 *
 * A writable file and a socket bound on the image forbid the upgrade, unless the policy ends them:
 * `restart` and `handover` end the process; `reexec` ends what an exec ends, so its descriptors
 * only if they are close-on-exec; a socket that PID 1 holds for the service stays in any case.
 */
enum holder_action plan_holder_action(
	const struct holder *h, enum upgrade_policy policy, bool counterpart, bool reachable);
const char *plan_action_name(enum holder_action action);

/* In the judging child: each sends its records over `socket`. */
void plan_header(int socket, const struct image_request *q, const struct image *image);
int plan_mounts(int socket, int root, const char *leave, struct error *e);
/* `roots`: the mounts of the image that are the roots of the other name spaces; freed with the
 * child. */
struct plan_roots {
	uint64_t *ids;
	size_t count;
};
int plan_namespaces(int socket, int tree, int root, const char *leave, struct plan_roots *roots,
	struct error *e);
int plan_services(int socket, struct error *e);
/* The hooks that an upgrade would run: the running image's and the new one's. */
int plan_hooks(int socket, int root, struct error *e);
int plan_holders(int socket, int tree, int root, const struct plan_roots *others, struct error *e);

/* What the policy of its service is worth now: POLICY_KEEP for what is no service or does not run.
 */
enum upgrade_policy plan_policy_of(const struct holder *h);

/* "process 812 (tmux) has /data open for writing on the old image (fd 4)": of what forbids. */
void plan_describe(const struct holder *h, char *buf, size_t size);
/* What would be lost, of what forbids. */
const char *plan_stake(const struct holder *h);
/* What a person can do about a holder; "": nothing needs to be done. `remedy` (NULL: none): what
 * helps without ending anything. */
void plan_advice(const struct holder *h, enum holder_action action, const char *remedy, char *buf,
	size_t size);

/* The first service that is in the middle of the last connections it had before the upgrade before,
 * and in which process; NULL: none. It cannot get onto another image until that has ended. */
const struct service *plan_find_draining(pid_t *ret_pid);

/* One holder as a record of kind "holder"; for plans and for `initctl holders`. `why` may be NULL:
 * why it cannot be migrated, or not now; `remedy` as above. */
void plan_write_holder(struct record_writer *w, const struct holder *h, unsigned generation,
	enum holder_action action, const char *why, const char *remedy);

#endif
