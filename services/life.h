/* SPDX-License-Identifier: MIT */
/*
 * What the actions of a service have in common: the steps that they are made of. For service.c,
 * which has the table, and checking.c, starting.c, running.c and stopping.c, which have the
 * actions; for nobody else.
 */
#ifndef MOLT_SERVICES_LIFE_H
#define MOLT_SERVICES_LIFE_H

#include "services/service.h"

void life_set_state(struct service *s, enum service_state state, uint64_t timeout_usec);
/* Its first start has come to its end, in this way or that. Only the first call counts. */
void life_note_started(struct service *s, bool failed);

/* Notes and logs why it fails. The first failure is the cause, what follows are its consequences.
 */
void life_blame(struct service *s, enum service_result result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void life_blame_exit(struct service *s, const char *what, const struct process_exit *ended);
bool life_ended_well(const struct service *s, const struct process_exit *ended);
/* The same of a command, which no signal ends well but those of SuccessExitStatus=. */
bool life_command_succeeded(const struct service *s, const struct process_exit *ended);

/*
 * Starts the line of the list that s->command_index names, and enters the state. 1: it runs, 0:
 * there is no such line, negative errno: it could not be started (blamed). What was the control
 * process before is forgotten.
 */
int life_run_control(struct service *s, const struct commands *list, enum service_state state,
	uint64_t timeout_usec);
/* The control process has ended: did its line of the list allow to go on? If not, `key` is blamed.
 */
bool life_control_succeeded(struct service *s, const struct commands *list, const char *key);
/* Whether that line has the prefix "-". */
bool life_ignores(const struct service *s, const struct commands *list);
void life_forget_control(struct service *s);
void life_kill_control(struct service *s); /* SIGKILL, and forgotten */

/* The steps that several actions end with; each leads on by itself. */
/* The processes are told to end; ExecStopPost= and finish once they have. */
void life_terminate(struct service *s);
void life_terminate_by(struct service *s, int signal);
void life_finish(struct service *s); /* nothing of it runs any more: what next? */
void life_drop_current(struct service *s);

/* How long after SIGKILL it is waited for the end of a process. */
#define KILL_USEC (5 * USEC_PER_SEC)
/* How long looking at conditions may take: no more than a few looks at files. */
#define CHECK_USEC (10 * USEC_PER_SEC)
/* Has the conditions of the service looked at, which then goes on, or not. False: it has none. */
bool life_check(struct service *s);
void life_begin(struct service *s); /* ExecStartPre=, and what follows */

/* The actions of the table. */
typedef void (*action)(struct service *s);

void act_none(struct service *s);

/* checking.c */
void act_checked(struct service *s);
void act_check_stop(struct service *s);
void act_check_timeout(struct service *s);

/* starting.c */
void act_start(struct service *s);
void act_restart_backoff(struct service *s);
void act_pre_done(struct service *s);
void act_starting_control_exit(struct service *s);
void act_execed(struct service *s);
void act_ready(struct service *s);
void act_starting_main_exit(struct service *s);
void act_starting_empty(struct service *s);
void act_start_timeout(struct service *s);
void act_post_done(struct service *s);

/* running.c */
void act_main_gone(struct service *s);
void act_running_empty(struct service *s);
void act_reload(struct service *s);
void act_reload_done(struct service *s);
void act_reload_timeout(struct service *s);
void act_reload_begun(struct service *s);
void act_reload_goes_on(struct service *s);
void act_reload_ready(struct service *s);
void act_watchdog(struct service *s);

/* stopping.c */
void act_stop(struct service *s);
void act_stop_early(struct service *s);
void act_stop_idle(struct service *s);
void act_stop_noted(struct service *s);
void act_start_noted(struct service *s);
void act_stop_command_done(struct service *s);
void act_stop_timeout(struct service *s);
void act_terminating_main_exit(struct service *s);
void act_terminating_exit(struct service *s);
void act_terminate_timeout(struct service *s);
void act_killing_exit(struct service *s);
void act_kill_timeout(struct service *s);
void act_empty(struct service *s);
void act_cleanup_done(struct service *s);
void act_cleanup_timeout(struct service *s);

/* Goes on after the start of a main process that only a note tells of. */
void life_resume_start(struct service *s);

void life_pid_file_timer_expired(struct loop_timer *t);

#endif
