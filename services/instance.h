/* SPDX-License-Identifier: MIT */
/* One run of a service's program: a cgroup, a main process, and the pipe that tells of a failed
 * exec. */
#ifndef MOLT_SERVICES_INSTANCE_H
#define MOLT_SERVICES_INSTANCE_H

#include "kernel/cgroup.h"
#include "services/service.h"

/* Makes tree/NAME/NUMBER and watches it. NULL with text if it cannot be. */
struct instance *instance_new(struct service *s, struct error *e);
/* The same for a cgroup that is there, in the tree or `outside`: after an exec of PID 1. */
struct instance *instance_adopt(struct service *s, unsigned number, bool outside, struct error *e);
/* Goes on waiting for the exec of its main process; -1: it has happened. */
int instance_adopt_exec_pipe(struct instance *i, int pipe);
/* Forgets its processes, removes the cgroup (if empty) and frees it. NULL is fine. */
void instance_free(struct instance *i);

/* Starts the main process; the service is to be `state` with it. 0 or negative errno with text. */
int instance_start_main(
	struct instance *i, const struct command *c, enum service_state state, struct error *e);
/* Starts another command of the service in its cgroup and watches it in s->control. */
int instance_start_control(
	struct instance *i, const struct command *c, enum service_state state, struct error *e);
/* The same for a child that looks at the conditions of the service; see check.h. */
int instance_start_check(struct instance *i, struct error *e);
/* The same for ExecStart= of Type=forking, which leaves the main process behind. */
int instance_start_forking(struct instance *i, const struct command *c, struct error *e);
/* Makes `pid` the main process (MAINPID=, PIDFile=). -EPERM if it is not in the instance's cgroup.
 */
int instance_set_main(struct instance *i, pid_t pid);

/* The number in PIDFile=, whatever it is worth. 0 or negative errno. */
int instance_read_pid_file(const struct instance *i, pid_t *ret);

/* Kills what is in instances of a higher number than any that is known; their numbers are used. */
void instance_kill_strays(struct service *s);

/* Removes the cgroups of earlier instances, which a process outlived; those that one still does are
 * watched from now on (remains.h). */
void instance_sweep(const struct service *s);

bool instance_is_empty(const struct instance *i);
bool instance_is_frozen(const struct instance *i);
/* Whether pid is in its cgroup. */
bool instance_owns(const struct instance *i, pid_t pid);
/* TERM-like signal by KillMode=, SIGKILL to all. */
void instance_terminate(struct instance *i);
/* Another signal to whom KillMode= names. */
void instance_signal(struct instance *i, int signal);
void instance_kill(struct instance *i);

/* The processes of the instance; appended. */
int instance_pids(const struct instance *i, struct pid_array *list);

/* What the instances tell their service; set by service.c. */
void instance_on_main_exit(struct instance *i, const struct process_exit *ended);
void instance_on_empty(struct instance *i);
void instance_on_exec(struct instance *i, const char *failure); /* NULL: it worked */

#endif
