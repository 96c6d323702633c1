/* SPDX-License-Identifier: MIT */
/*
 * How one service gets onto another image, by its [Upgrade] Policy=. The same in both directions:
 * an upgrade rolls services to the new root, a rollback rolls those that had moved back to the old
 * one.
 *
 * A roll is WAITING for its turn, SETTLING until what the previous roll left behind has drained,
 * ASKED until the service stands on the target image and is ready, then DONE, or FAILED with a
 * reason. Whether it stands there is a fact and not the service's word: the mount of /proc/PID/exe
 * of its main process.
 */
#ifndef MOLT_SERVICES_POLICY_H
#define MOLT_SERVICES_POLICY_H

#include "services/message.h"
#include "services/service.h"

void policy_init(struct service *s); /* from service_new() */

/* Begins the roll to the image whose root mount is `target`. What is not running, or there already,
 * is DONE at once. */
void policy_roll(struct service *s, uint64_t target);
/* Goes on with a roll that a re-exec of PID 1 interrupted. */
void policy_resume(struct service *s);
/* After a crash: an instance was started beside the one that serves, in a roll of which the state
 * knows only that it was to come. Whose target is told anew (rollout_resume()). */
void policy_take_incoming(struct service *s);
/* The old instance of a handover is told to end at the loop's next turn; this is for whoever cannot
 * wait for that: an exec, whose next init may be of a version that takes it for told. */
void policy_ask_to_drain(struct service *s);
/* Undoes what is half done (an incoming instance, a new main process beside the old) and ends the
 * roll. */
void policy_abort(struct service *s);

/* Which generation the root mount is of, for REEXEC; set by upgrade/. */
extern unsigned (*policy_generation_of)(uint64_t mount_id);

/* Called at each change to DONE or FAILED; set by upgrade/. */
extern void (*policy_rolled)(struct service *s);

/* From service.c. The first says true if the exit was part of a roll and no end of the service. */
bool policy_main_exited(struct service *s);
void policy_incoming_exited(struct service *s, const struct process_exit *ended);
void policy_incoming_execed(struct service *s);
void policy_incoming_empty(struct service *s);
void policy_drained(struct service *s);
void policy_ready(struct service *s, struct instance *i);
/* REFUSED= that answers no PREPARE. Whether it answers a REEXEC: the roll fails then. */
bool policy_refused(struct instance *i, const struct answer *a);

#endif
