/* SPDX-License-Identifier: MIT */
/*
 * All services of the machine: found by name, loaded from their files, started and stopped in
 * order. Starting and stopping only ask; set_on_change() tells when something has changed.
 */
#ifndef MOLT_SERVICES_SET_H
#define MOLT_SERVICES_SET_H

#include <stddef.h>

#include "services/service.h"

/* `changed` is called, soon after and once for many, when services changed state. */
void set_init(void (*changed)(void));

struct service *set_first(void); /* then ->next; sorted by name */
struct service *set_find(const char *name); /* with or without ".service"; NULL */

/* Each is 0 or negative errno with text: -ENOENT no such service. What they began may still fail
 * later. */
int set_start(const char *name, struct error *e);
int set_stop(const char *name, struct error *e);
int set_restart(const char *name, struct error *e);
int set_reload(const char *name, struct error *e);

/*
 * Where a service wants something mounted (RequiresMountsFor=) whose device may still come: one
 * hook answers how that stands, NULL: everything is there that ever will be. It writes a sentence
 * about what is not there to `why`. set_look_again() says that an answer has changed.
 */
enum mount_standing { MOUNT_THERE, MOUNT_AWAITED, MOUNT_FAILED };
extern enum mount_standing (*set_asks_mount)(const char *path, char *why, size_t size);
void set_look_again(void);

/* Asks all to stop, in reverse order, and lets none start any more. */
void set_stop_all(void);
bool set_all_down(void);
void set_kill_all(void); /* SIGKILL to whatever is left in the tree */

/*
 * The service whose instance's cgroup that process is in; *ret_instance its number. NULL: none of
 * ours. `pidfd` -1: none is known; else one that has ended is found too, if the kernel tells.
 */
struct service *set_of_sender(pid_t pid, int pidfd, unsigned *ret_instance);

/* Before the state is handed to another init: what was only to be done at the next turn. */
void set_settle(void);
void set_save(struct record_writer *w);
/* From now on a service that is up and whose file cannot be read is not taken up: for a life that
 * can still be given back to the init before it. */
void set_be_strict(void);
/* Takes a record of kind "service". Negative errno with text if that service cannot be taken up. */
int set_load_record(const struct record *r, struct error *e);
/* A record of kind "fork": service_load_fork(). */
int set_load_fork(const struct record *r, struct error *e);
void set_each_fd(int (*visit)(int fd));
/* After all records: ranks, timers, interrupted rolls. */
void set_resume(bool crashed);

#endif
