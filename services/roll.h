/* SPDX-License-Identifier: MIT */
/*
 * What policy.c, which leads a roll from its begin to its end, and the policies share; internal to
 * them. Each policy has two steps: ask(), once what was before has settled, and check(), as often
 * as roll_poll_again() was called. Each call of one ends the roll, or has it polled again.
 */
#ifndef MOLT_SERVICES_ROLL_H
#define MOLT_SERVICES_ROLL_H

#include "services/service.h"

/* ROLL_DONE or ROLL_FAILED. */
void roll_end(struct service *s, enum roll_state state);
/* Undoes what is half done and ends it as failed, for that reason. */
void __attribute__((format(printf, 2, 3))) roll_fail(struct service *s, const char *format, ...);
void roll_poll_again(struct service *s);
/* PID 1 had no process, descriptor or memory left to start it, which may be different in a moment:
 * asks once more then. False: that has been tried often enough. */
bool roll_ask_later(struct service *s);

void roll_ask_reexec(struct service *s);
void roll_check_reexec(struct service *s);
/* What has been made beside the old main process, and is not the service's yet, goes. */
void roll_end_successor(struct service *s);
void roll_old_main_exited(struct process *p, const struct process_exit *ended);

void roll_ask_handover(struct service *s);
void roll_check_handover(struct service *s);
void roll_drain_timer_expired(struct loop_timer *t);
/* In the next life: goes on with what drains. */
void roll_resume_drain(struct service *s);

void roll_ask_restart(struct service *s);
/* It was up when the upgrade began and did not survive it: the image it is rolled back to has the
 * version that ran. */
void roll_ask_start(struct service *s);
void roll_check_restart(struct service *s);

#endif
