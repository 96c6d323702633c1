/* SPDX-License-Identifier: MIT */
/*
 * One service's life.
 *
 * A service is INACTIVE until somebody wants it. Wanted, it is WAITING until everything it is
 * ordered After= has become active or given up. Then its conditions are looked at, if it has any
 * (CHECKING): where one is not met it is INACTIVE again. ExecStartPre= runs (PRE), the main process
 * is started (STARTING) and becomes ready in the way of its Type=; ExecStartPost= runs (POST) and
 * it is RUNNING. ExecReload= runs in RELOADING, from which it returns to RUNNING whatever the
 * outcome. A oneshot that has done its work is EXITED (RemainAfterExit=yes: active) or INACTIVE.
 *
 * On its way down it is STOPPING while ExecStop= runs, TERMINATING once KillSignal= was sent and
 * KILLING after SIGKILL: each ends when the cgroup of the instance is empty (KillMode=process: when
 * the main process has gone), or at its deadline with the next. Then ExecStopPost= (CLEANUP) and
 * the service is INACTIVE, FAILED, or in BACKOFF until Restart= brings it back.
 *
 * Its listening sockets are open from its first start on, whatever becomes of its processes: what
 * connects meanwhile queues. Only whoever stops the service closes them.
 *
 * Each run of the program is an instance with a cgroup of its own, tree/NAME/NUMBER, so that two
 * instances can stand side by side while one hands over to the other.
 *
 * What a service does is a table, state x event -> action, in service.c; the actions are in
 * checking.c, starting.c, running.c and stopping.c.
 */
#ifndef MOLT_SERVICES_SERVICE_H
#define MOLT_SERVICES_SERVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "conf/record.h"
#include "conf/unit.h"
#include "kernel/loop.h"
#include "kernel/process.h"

enum service_state {
	STATE_INACTIVE,
	STATE_WAITING,
	STATE_CHECKING,
	STATE_PRE,
	STATE_STARTING,
	STATE_POST,
	STATE_RUNNING,
	STATE_RELOADING,
	STATE_EXITED,
	STATE_STOPPING,
	STATE_TERMINATING,
	STATE_KILLING,
	STATE_CLEANUP,
	STATE_BACKOFF,
	STATE_FAILED,
	N_STATES,
};

enum service_event {
	EVENT_START, /* somebody wants it, and its turn has come */
	EVENT_STOP, /* somebody wants it gone */
	EVENT_RELOAD,
	EVENT_EXECED, /* the main process has become its program */
	EVENT_READY, /* READY=1, or what stands for it */
	EVENT_RELOADING, /* RELOADING=1 */
	EVENT_MAIN_EXIT,
	EVENT_CONTROL_EXIT, /* the process of an Exec*= other than the main one */
	EVENT_EMPTY, /* the instance's cgroup has no process left */
	EVENT_TIMEOUT, /* the state's deadline has passed */
	EVENT_WATCHDOG, /* WATCHDOG=1 did not come in time */
	N_EVENTS,
};

/* Why it is FAILED, or why it was last stopped. */
enum service_result {
	RESULT_SUCCESS,
	RESULT_EXIT_CODE,
	RESULT_SIGNAL,
	RESULT_TIMEOUT,
	RESULT_RESOURCES, /* fork, cgroup, socket */
	RESULT_EXEC, /* the program could not be started */
	RESULT_DEPENDENCY,
	RESULT_PROTOCOL, /* e.g. no PID file after a forking start */
	RESULT_WATCHDOG,
	RESULT_CONDITION, /* not started, and no failure */
	RESULT_ASSERTION,
	N_RESULTS,
};

struct service;
struct notification; /* message.h */
struct stored_fd; /* fdstore.h */

/* What a service says to PREPARE; see vote.h. */
enum vote { VOTE_NONE, VOTE_ASKED, VOTE_PREPARED, VOTE_REFUSED, VOTE_LATE };

struct ballot {
	enum vote vote; /* NONE: it was not asked, or has heard how it went on */
	uint64_t deadline_usec;
	uint64_t id_usec; /* the deadline as it was told */
	unsigned generation;
	unsigned n_answers;
	bool lost; /* the socket was closed before an answer came */
};

/* PID 1's end of $MOLT_FD; see handshake.h. */
struct handshake {
	int fd; /* -1: none */
	struct loop_source source;
	struct ballot ballot;
	unsigned n_nonsense;
};

struct instance {
	struct service *service;
	unsigned number;
	int cgroup; /* directory; -1 once gone */
	int events_fd;
	struct loop_source events;
	struct process main;
	int exec_pipe; /* tells why an exec failed; closed by the exec itself; -1: not waiting */
	struct loop_source exec_source;
	bool execed;
	bool outside; /* SystemStorage=: its cgroup is not below the tree, so it does not freeze */
	struct handshake handshake;
};

/* How far a reload has got that the service itself tells the end of. */
enum reload_step {
	RELOAD_NONE,
	RELOAD_ASKED, /* ReloadSignal= was sent: RELOADING=1 is to come */
	RELOAD_BEGUN, /* READY=1 is to come */
};

/* How far the service has got on its way to another image; see policy.h. */
enum roll_state { ROLL_NONE, ROLL_WAITING, ROLL_SETTLING, ROLL_ASKED, ROLL_DONE, ROLL_FAILED };

struct roll {
	enum roll_state state;
	uint64_t target; /* mount id of the image to get to */
	uint64_t deadline_usec;
	struct loop_timer timer;
	bool ready_seen; /* READY=1 came since it was asked */
	bool refused; /* REFUSED= came since it was asked; `why` has the reason */
	bool successor_seen; /* a new main process was on its way; see successor.h */
	uint64_t successor_gone_usec; /* since when it is not any more; 0: it is */
	bool preforks; /* the old main process had children: the new one is ready once it has */
	bool was_up; /* as the upgrade began: so a rollback starts it again if it has to */
	bool started; /* it was started for this roll, whatever its policy */
	bool drain_killed; /* what kept it from settling was */
	unsigned poll_count;
	unsigned n_short; /* how often PID 1 had not what it takes to start it */
	char why[256]; /* when it failed */
};

struct listen_socket {
	char *address; /* as in ListenStream= */
	int fd;
	bool rolled; /* the unit of only one of two images names it; see listen_settle() */
	dev_t dev; /* of its file, if it has one: nobody else's is removed */
	ino_t ino;
};

/* Its first start, as `initctl blame` tells it. CLOCK_MONOTONIC; 0: that has not happened. */
struct first_start {
	uint64_t asked_usec; /* somebody wanted it */
	uint64_t begun_usec; /* what it comes after was up: its turn */
	uint64_t done_usec; /* it was up, or its work was done, or it failed */
	bool failed;
};

struct service {
	struct service *next; /* of all, by name */
	struct unit *unit;
	enum service_state state;
	enum service_result result;
	uint64_t since_usec; /* CLOCK_MONOTONIC, in this state */
	struct first_start first;
	unsigned order; /* rank by After=; see graph.h */
	struct service **after,
		**before; /* whom it comes after, who comes after it; see catalog.h */
	size_t n_after, n_before;
	bool is_new; /* came in with the load that is under way */
	bool needs_loaded; /* what it Requires= and Wants= was looked for */
	bool circle_told;

	struct instance *current; /* what serves; NULL in INACTIVE and FAILED */
	struct instance *incoming; /* the new one of a handover, not ready yet */
	struct instance
		*draining; /* the old one of a handover or of a re-exec by fork, on its way out */
	struct process
		old_main; /* the old main process of a re-exec by fork: drains inside `current` */
	unsigned last_instance;
	uint64_t n_forks; /* processes that were started for it so far */

	struct process control; /* an Exec*= command other than the main one */
	int control_pipe; /* tells why its exec failed; -1: none */
	char exec_failure[256]; /* what it told of the last one; "" if its exec worked */
	size_t command_index; /* which line of that Exec*= list */
	struct loop_timer timer; /* of the state */
	struct loop_timer drain_timer;
	bool drain_asked; /* the draining instance has been told to end */
	struct loop_timer pid_file_timer; /* looks again for a PID file that is not there yet */

	struct listen_socket *listen;
	size_t n_listen;

	bool restart_wanted; /* start again once it is down */
	bool stop_wanted; /* asked to stop while it may be restarted otherwise */
	bool stop_queued; /* to be stopped once what is ordered after it is down; see set.h */
	unsigned n_restarts; /* by Restart=, ever */
	unsigned backoff; /* in a row without staying up */
	struct process_exit last_exit; /* of whatever process of it ended last */
	struct process_exit main_exit; /* of the main process of this run; not known: none yet */
	char *status_text; /* STATUS=, cut to 200 bytes; NULL: none */
	int status_errno; /* ERRNO=; 0: none */
	char bus_error[128]; /* BUSERROR=, cut; "": none */
	int exit_status; /* EXIT_STATUS=, of a main process that leaves none; -1: not said */
	enum notify_access notify_access; /* in effect: NotifyAccess= or NOTIFYACCESS= */
	enum reload_step reload;
	uint64_t reload_asked_usec; /* a RELOADING=1 from before is not the answer */
	uint64_t watchdog_usec; /* in effect: WatchdogSec= or WATCHDOG_USEC=; 0: none */
	struct loop_timer watchdog_timer;
	uint64_t watchdog_due_usec;
	struct stored_fd *stored; /* see fdstore.h */
	unsigned n_stored;
	char why[256]; /* a sentence on the last failure, of a reload too */
	bool replayed; /* a start was taken up from a note: see service_load_fork() */
	bool listen_lost; /* a socket that the state named is not there any more */
	struct roll roll;
};

/*
 * Makes a service of a unit, which it takes over, with its sockets not yet open. NULL without
 * memory (the unit is freed then too).
 */
struct service *service_new(struct unit *unit);
/* Frees one that is INACTIVE or FAILED. */
void service_free(struct service *s);

/* Feeds an event to the table. */
void service_event(struct service *s, enum service_event event);
/* Whether the table decides that pair. It does for all: this is for the test that says so. */
bool service_decides(enum service_state state, enum service_event event);

bool service_is_active(const struct service *s); /* ready: what waits for it may go on */
bool service_is_down(const struct service *s); /* nothing of it runs and nothing is planned to */
bool service_is_settled(const struct service *s); /* no start, stop or reload is under way */

const char *service_state_name(enum service_state state);
const char *service_result_name(enum service_result result);

/* The main process of what serves; 0: none. */
pid_t service_main_pid(const struct service *s);

/*
 * A message of sd_notify(3) from process `sender` in that instance's cgroup, with the descriptors
 * that came along; of those that it keeps, it sets the place to -1.
 */
void service_notify(struct service *s, unsigned instance, pid_t sender,
	const struct notification *n, int *fds, size_t n_fds);

/* Wanted, and waiting for its turn: from INACTIVE, FAILED, BACKOFF or EXITED. */
void service_wait(struct service *s);
/* It could not even be begun: sets FAILED with that reason, "b.service, which it Requires=, has
 * failed". */
void service_fail_dependency(struct service *s, const char *reason);

/* A process that was started for a service: noted before the state that has it is written. */
struct fork_note {
	uint64_t number; /* of the service's: n_forks with it */
	unsigned instance;
	bool outside; /* of that instance */
	enum fork_role { FORK_MAIN, FORK_CONTROL, FORK_INCOMING } role;
	enum service_state state; /* that it is to be in */
	size_t command_index;
	pid_t pid;
};
/* One hook; NULL: nobody takes notes. */
extern void (*service_forked)(const struct service *s, const struct fork_note *n);
/* Writes the state down that a crash begins with. One hook; NULL: there is none. Only from where a
 * turn of the loop could end. */
extern void (*service_keep)(void);
void service_write_fork(struct record_writer *w, const struct fork_note *n);

/* What waits on services hears of each change of state here. One hook, set by the set. */
extern void (*service_changed)(struct service *s);

/* Tree and sockets, told once at start. */
struct service_world {
	int tree; /* cgroup directory; borrowed */
	const char *tree_path; /* as /proc/PID/cgroup shows it: "/tree" */
	int storage; /* the cgroup of SystemStorage=, beside the tree; borrowed */
	const char *storage_path;
	const char *notify_path;
	const char *log_directory;
	uint64_t log_max_bytes;
	uint64_t timeout_start_usec, timeout_stop_usec; /* for units that do not say */
	struct rlimit nofile; /* what PID 1 was started with, for its children */
};
extern struct service_world world;

/* State across an exec: the record's fields, without begin and end. Descriptors by number
 * (state.h). */
void service_save(const struct service *s, struct record_writer *w);
/* Takes up what service_save() wrote, in a service fresh from service_new(). 0 or negative errno.
 */
int service_load(struct service *s, const struct record *r, struct error *e);
/* After a crash, when its state is loaded: that process was started and the state does not know.
 * What has to follow it does in service_resume(). */
int service_load_fork(struct service *s, const struct record *r, struct error *e);
/* Everything is loaded. `crashed`: opens the sockets that are lost, and ends a start of which
 * nothing else is known. */
void service_resume(struct service *s, bool crashed);
/* Calls `visit` for each descriptor that must survive the exec. */
void service_each_fd(const struct service *s, int (*visit)(int fd));

#endif
