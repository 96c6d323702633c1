/* SPDX-License-Identifier: MIT */
/*
 * Service files: systemd's dialect where the meaning is the same, plus our [Upgrade] section.
 * This is text to struct and nothing else: what a service does with it is services/'s subject.
 *
 * A unit NAME.service is looked up in the directories of UNIT_PATH, first one wins; then the
 * drop-ins NAME.service.d/ *.conf of all of them are read on top, sorted by file name (a file name
 * in an earlier directory hides the same one in a later). systemd.unit(5) describes the syntax that
 * is followed: comments (# and ;), continuation lines with a backslash, lists that add up over
 * repeated keys, an empty value that resets a list.
 *
 * A key we do not support is a warning with file:line. A wrong value is an error with file:line and
 * leaves this service out, and no other.
 */
#ifndef MOLT_CONF_UNIT_H
#define MOLT_CONF_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/condition.h"
#include "conf/exit_set.h"
#include "kernel/error.h"

enum service_type {
	SERVICE_SIMPLE,
	SERVICE_EXEC,
	SERVICE_FORKING,
	SERVICE_ONESHOT,
	SERVICE_NOTIFY,
	SERVICE_NOTIFY_RELOAD, /* and reloads on ReloadSignal=, telling when that is over */
};

enum restart_when {
	RESTART_NO,
	RESTART_ON_SUCCESS,
	RESTART_ON_FAILURE,
	RESTART_ON_ABNORMAL,
	RESTART_ON_ABORT,
	RESTART_ON_WATCHDOG,
	RESTART_ALWAYS,
};

enum kill_mode {
	KILL_CONTROL_GROUP, /* the signal to every process, then SIGKILL to every process */
	KILL_MIXED, /* the signal to the main process, then SIGKILL to every process */
	KILL_PROCESS, /* only the main process */
	KILL_NONE,
};

/* Whose messages of sd_notify(3) count, of the processes of the service. */
enum notify_access {
	NOTIFY_ALL, /* every one of them */
	NOTIFY_NONE,
	NOTIFY_MAIN,
	NOTIFY_EXEC, /* the main one and those of Exec keys */
};

/* When the descriptors that a service has stored are closed. */
enum fd_store_preserve {
	FD_STORE_RESTART, /* when it is stopped or has failed, and is not about to start again */
	FD_STORE_NO, /* whenever it stops */
	FD_STORE_YES, /* only by the service itself */
};

enum upgrade_policy {
	POLICY_REEXEC,
	POLICY_HANDOVER,
	POLICY_RESTART,
	POLICY_KEEP,
};

/* One command line of an Exec key. */
struct command {
	char **argv; /* NULL-terminated; argv[0] as the program will see it */
	char *path; /* what to exec: absolute, or a name without a slash that is looked for */
	bool ignore_failure; /* "-" prefix */
	bool no_environment_expansion; /* ":" prefix */
	bool privileged; /* "+", "!" or "!!" prefix: runs as root, whatever User= says */
};

/* A list of commands; NULL-terminated arrays would do, counts are easier to write down. */
struct commands {
	struct command *items;
	size_t count;
};

enum listen_family {
	LISTEN_INET, /* "80", "127.0.0.1:80", "[::1]:80"; a bare port listens on [::] for both */
	LISTEN_UNIX, /* "/run/x.sock"; "@x" is the abstract name space */
};

enum listen_type { LISTEN_STREAM, LISTEN_DATAGRAM, LISTEN_SEQPACKET };

struct listen_config {
	enum listen_family family;
	enum listen_type type;
	/* The key by which a listening socket is found again: as written, with "datagram:" or
	 * "seqpacket:" in front of what is no stream. */
	char *address;
	char *host; /* inet: numeric host, NULL for any; unix: the path */
	uint16_t port; /* inet only */
	size_t options; /* 0: the unit's `socket`; from 1 on: its `borrowed` */
};

/* What a [Socket] section says of all its sockets. */
struct socket_options {
	char *fd_name; /* FileDescriptorName=; NULL: the name of the unit */
	mode_t mode; /* SocketMode= of their files, default 0666 */
	char *user, *group; /* SocketUser=, SocketGroup=: their files' owner; NULL: root */
	bool pass_credentials; /* PassCredentials= */
	char **links; /* Symlinks=: to the file, of the one that has one */

	/* Of a .socket unit alone. */
	char *service; /* Service=; NULL: the one of the same name */
	bool accept; /* Accept=yes: a service for each connection, which we have not */
	bool odd; /* it listens in a way that is not supported */
};

/* RuntimeDirectory= and its like: made before the service starts, and owned by its user. */
enum unit_directory_kind {
	DIRECTORY_RUNTIME, /* /run */
	DIRECTORY_STATE, /* /var/lib */
	DIRECTORY_CACHE, /* /var/cache */
	DIRECTORY_LOGS, /* /var/log */
	DIRECTORY_CONFIGURATION, /* /etc; root's */
	N_UNIT_DIRECTORIES,
};

struct unit_directory {
	char *names; /* relative paths, separated by white space; NULL: none */
	mode_t mode; /* RuntimeDirectoryMode= ..., default 0755 */
};

#define UNIT_USEC_INFINITY UINT64_MAX
#define UNIT_PREPARE_TIMEOUT_USEC UINT64_C(10000000)

/*
 * One service as configured. Everything is owned by the struct; unit_free() frees it. Lists of
 * strings are NULL-terminated and never NULL. Times are microseconds.
 */
struct unit {
	char *name; /* "nginx.service" */
	char *source; /* the file it was read from */

	/* [Unit] */
	char *description; /* the name, if there is none */
	char **after, **before, **requires, **wants;
	struct conditions conditions; /* Condition...= and Assert...= */
	/* RequiresMountsFor=, and where the x.mount units of Requires= are mounted: absolute paths
	 */
	char **mounts_for;

	/* [Service] */
	enum service_type type;
	struct commands exec_start_pre, exec_start, exec_start_post, exec_reload, exec_stop,
		exec_stop_post;
	char *pid_file; /* absolute; NULL if none */
	bool remain_after_exit;
	enum restart_when restart;
	uint64_t restart_usec; /* RestartSec, default 100 ms: the first delay of the backoff */
	struct exit_set success; /* SuccessExitStatus=: ends well too */
	struct exit_set restart_prevent; /* RestartPreventExitStatus=, of the main process */
	struct exit_set restart_force; /* RestartForceExitStatus= */
	uint64_t timeout_start_usec; /* default 90 s; oneshot: infinity */
	uint64_t timeout_stop_usec; /* default 90 s */
	bool timeout_start_set; /* whether the file says it; if not, init.conf's default holds */
	bool timeout_stop_set;
	enum notify_access notify_access;
	uint64_t watchdog_usec; /* WatchdogSec; 0: none */
	int watchdog_signal; /* default SIGABRT */
	int reload_signal; /* of Type=notify-reload; default SIGHUP */
	unsigned fd_store_max; /* FileDescriptorStoreMax=; 0: it may store none */
	enum fd_store_preserve fd_store_preserve;
	int kill_signal; /* default SIGTERM */
	enum kill_mode kill_mode;
	char *user, *group; /* names or numbers; NULL: root */
	char **groups; /* SupplementaryGroups=: names or numbers, beside those of the user */
	/* DynamicUser=: systemd would make the user. We do not, so there has to be one: `user`,
	 * or without it the one that has the service's name. */
	bool dynamic_user;
	char **environment; /* "NAME=value" */
	char **environment_files; /* absolute; a leading "-" means: may be missing */
	char *working_directory; /* absolute, or NULL for / */
	bool working_directory_optional; /* "-" prefix */
	struct unit_directory directories[N_UNIT_DIRECTORIES];
	uint64_t ambient; /* AmbientCapabilities=: a bit for each */
	char **sandbox; /* the keys of sandboxing that its files have, of which we do nothing */
	mode_t umask; /* default 0022 */
	bool ignore_sigpipe; /* IgnoreSIGPIPE=, default yes */
	uint64_t limit_nofile; /* LimitNOFILE=; 0: as inherited, UINT64_MAX: "infinity" */
	char *utmp_line; /* UtmpIdentifier=: the terminal it has entries of utmp(5) for; or NULL */
	int nice; /* Nice= */
	bool nice_set; /* if not it is PID 1's own */
	int oom_score_adjust;
	bool oom_score_adjust_set;

	/* [Socket], and the .socket units that it Requires=, Wants= or has as Sockets= */
	char **socket_units; /* Sockets= */
	bool non_blocking; /* NonBlocking= */
	struct listen_config *listen;
	size_t n_listen;
	struct socket_options socket; /* of the unit's own section */
	struct socket_options *borrowed; /* of .socket units */
	size_t n_borrowed;

	/* [Upgrade] */
	enum upgrade_policy policy; /* default keep */
	bool policy_set; /* whether it was said */
	int reexec_signal; /* 0: none */
	int reexec_finish_signal; /* to the old main process once the new one is ready; 0: none */
	uint64_t ready_timeout_usec; /* default 30 s */
	bool handshake; /* it has a say: $MOLT_FD */
	uint64_t prepare_timeout_usec; /* how long its answer to PREPARE may take; default
					  UNIT_PREPARE_TIMEOUT_USEC */
	bool system_storage; /* SystemStorage=: backs a mount, so it stays outside the tree */
};

/* What the section says that this socket is of. */
const struct socket_options *unit_socket_options(
	const struct unit *u, const struct listen_config *l);
/* The socket of that address; NULL: the unit has none. */
const struct listen_config *unit_find_listen(const struct unit *u, const char *address);

/* More descriptors than that no service can store, whatever its file says. */
#define UNIT_FD_STORE_MAX 4096
/* Whether it can stand in $LISTEN_FDNAMES: sd_listen_fds_with_names(3). */
bool unit_fd_name_is_valid(const char *name);

/* Gets each warning: one line with file:line in front, no newline. */
typedef void (*unit_warn)(void *userdata, const char *text);

/*
 * Loads NAME (with or without ".service"), and the .socket units that are its own, from the
 * directories in `path` (NULL-terminated, highest precedence first), below the directory fd `root`
 * (AT_FDCWD for /; symbolic links stay inside it, openat2 RESOLVE_IN_ROOT). Returns 0, -ENOENT if
 * no directory has it, -ERFKILL if it is masked (a link to /dev/null, or empty), -EINVAL for a
 * wrong value (text with file:line), -EFBIG for a file past 1 MiB, -E2BIG for more than 1,000
 * drop-ins or a list past STRINGS_MAX, another negative errno otherwise. *ret is the caller's,
 * unit_free().
 */
int unit_load(struct unit **ret, int root, const char *const *path, const char *name,
	unit_warn warn, void *userdata, struct error *e);

/* The same from one text: for tests, fuzzing and `initctl`-free checks. */
int unit_parse(struct unit **ret, const char *name, const char *source, const char *text,
	size_t length, unit_warn warn, void *userdata, struct error *e);

void unit_free(struct unit *u); /* NULL is fine */

/* The directories, highest precedence first: /etc/molt/system, /run/molt/system,
 * /usr/lib/molt/system, /etc/systemd/system, /run/systemd/system, /usr/local/lib/systemd/system,
 * /usr/lib/systemd/system, /lib/systemd/system. */
extern const char *const UNIT_PATH[];

const char *service_type_name(enum service_type t);
/* Whether READY=1 is what makes it ready. */
bool service_type_notifies(enum service_type t);
const char *upgrade_policy_name(enum upgrade_policy p);

/*
 * The pieces, pure and tested by themselves.
 * unit_parse_span: "90", "1min 30s", "500ms", "infinity" (systemd.time(7)) to microseconds.
 * unit_parse_signal: "TERM", "SIGTERM", "15", "RTMIN+3" to a signal number.
 * unit_split_command: systemd.service(5) "COMMAND LINES": quotes, C escapes, prefixes - : @ + !;
 *   specifiers %n %N %p %i %% are replaced; $VAR is kept for the time of exec. A lone ; would begin
 *   a second command and is an error here; in an Exec key it is none.
 * Each returns 0 or -EINVAL (-ENOMEM).
 */
int unit_parse_span(const char *text, uint64_t *ret_usec);
int unit_parse_signal(const char *text, int *ret_signal);
int unit_split_command(
	const char *text, const char *unit_name, struct command *ret, struct error *e);
int unit_parse_listen(const char *text, struct listen_config *ret, struct error *e);
int unit_parse_bool(const char *text, bool *ret);

/*
 * $VAR, ${VAR} and $$ in an argv against an environment ("NAME=value", NULL-terminated), by the
 * rules of systemd.service(5): ${VAR} is one word wherever it stands, a word that is just $VAR
 * splits at white space, a variable that is not set is empty. *ret_argv is the caller's,
 * strings_free(). Returns 0, -ENOMEM or -E2BIG for what execve(2) would not take (6 MiB).
 */
int command_expand(const struct command *c, char *const *environment, char ***ret_argv);

/*
 * Puts "NAME=value" into an environment, in the place of an earlier value of NAME. Returns 0,
 * -EINVAL for what is no assignment to a valid name, -ENOMEM, -E2BIG.
 */
int environment_set(char ***list, const char *assignment);

/* The value of NAME, or NULL. */
const char *environment_get(char *const *list, const char *name, size_t name_length);

/*
 * Reads an EnvironmentFile= text and puts its assignments into *list, with environment_set(). The
 * syntax is that of systemd.exec(5); a line that assigns nothing is skipped, as there. Returns 0,
 * -ENOMEM or -E2BIG; what was put into *list before that stays.
 */
int environment_file_parse(const char *text, size_t length, char ***list);

/* NULL-terminated string lists; a NULL list is an empty one. No list grows past STRINGS_MAX: what a
 * file says must not keep PID 1 busy, and each append counts from the start. */
#define STRINGS_MAX 8192
int strings_append(char ***list, const char *value); /* copies value; 0, -ENOMEM or -E2BIG */
int strings_ensure(char ***list); /* makes a NULL list an empty one; 0 or -ENOMEM */
void strings_free(char **list);
size_t strings_count(char *const *list);
bool strings_contain(char *const *list, const char *value);

#endif
