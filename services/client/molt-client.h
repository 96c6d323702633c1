/* SPDX-License-Identifier: MIT */
/*
 * libmolt-client: what a daemon needs to live through an upgrade of molt(8), and to work with any
 * service manager that speaks sd_notify(3). Nothing but libc; link with `pkg-config --cflags --libs
 * molt-client`. molt-client(3) has it all in one place; how to write a daemon with it is told in
 * writing-services.md.
 *
 * Functions return 0 or more, or a negative errno; they never print and never end the program. None
 * waits, but that a notification may, until PID 1 has read those before it. Descriptors stay the
 * caller's unless said otherwise. Threads: a struct molt_client is for one thread at a time; the
 * other functions have no state of their own and only read the environment, so they may be called
 * from any thread while nobody calls setenv(3).
 */
#ifndef MOLT_CLIENT_H
#define MOLT_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The upgrade handshake: Handshake=yes in the [Upgrade] section of the service file. */

struct molt_client;

enum molt_event_kind {
	/* May the image be swapped under you now? Answer molt_client_prepared() or
	 * molt_client_refuse() before `deadline_usec`: without an answer the upgrade is refused.
	 * Who agrees goes on serving, and can be frozen for some milliseconds at any moment until
	 * one of the others comes. */
	MOLT_EVENT_PREPARE = 1,
	/* You stand on the new image (or, after a rollback, on the old one again): save what the
	 * next program needs and molt_client_reexec(). Only with Policy=reexec. */
	MOLT_EVENT_REEXEC = 2,
	/* The upgrade came to nothing: carry on. */
	MOLT_EVENT_ABORT = 3,
	/* The upgrade is done, and you are not to execute yourself (another Policy=). */
	MOLT_EVENT_COMMIT = 4,
};

struct molt_event {
	enum molt_event_kind kind;
	unsigned generation; /* the number of the image that it is about */
	uint64_t deadline_usec; /* of PREPARE: CLOCK_MONOTONIC in microseconds; else 0 */
};

/*
 * Takes up the socket that $MOLT_FD names, and marks it close-on-exec, so that children do not
 * inherit it. *ret is the caller's, molt_client_close(). 0, -ENOENT: the service has no handshake
 * (another service manager, or no Handshake=yes), -EBADF: $MOLT_FD names no such socket, as in a
 * child of the service, or -ENOMEM.
 */
int molt_client_open(struct molt_client **ret);
/* Closes the socket: the service has no say any more. NULL is fine. */
void molt_client_close(struct molt_client *c);

/* The descriptor to wait on, for POLLIN; it belongs to `c`. */
int molt_client_fd(const struct molt_client *c);

/*
 * Takes one message, if there is one. 1 with *ret filled, 0: there is none now, -ECONNRESET: PID 1
 * has closed its end and nothing will come any more, or another negative errno. Messages of kinds
 * that this version does not know are skipped.
 */
int molt_client_receive(struct molt_client *c, struct molt_event *ret);

/* Answers the last PREPARE: yes. It may be followed by a refusal, for as long as others are asked.
 * 0 or negative errno; -EINVAL: there was none. */
int molt_client_prepared(struct molt_client *c);
/*
 * Answers PREPARE, or REEXEC: no. `reason` is a few words for people, such as "a backup is
 * running": they are shown to whoever asked for the upgrade. 200 bytes of it are used, of one line.
 * 0 or negative errno.
 */
int molt_client_refuse(struct molt_client *c, const char *reason);

/*
 * Executes the program at `path` in the place of this one: the file that has that name now, which
 * after an upgrade is the new image's. /proc/self/exe would be the old one again. It inherits the
 * `n` descriptors in `fds`, those of molt_listen_fds(), and the socket of `c` (NULL: none); it must
 * learn their numbers from the arguments, the environment or a memfd. Other descriptors keep their
 * close-on-exec flag, whatever it is. `argv` ends with NULL; the environment is this program's.
 *
 * Returns only if it failed: the negative errno. The flags are as they were then, and PID 1 has
 * been told by molt_client_refuse(), so that it takes the upgrade back.
 *
 * execve(2) keeps the PID, the signal mask and what signals are ignored, and ends other threads.
 */
int molt_client_reexec(
	struct molt_client *c, const char *path, char *const argv[], const int *fds, size_t n);

/* sd_notify(3) */

/*
 * Sends lines such as "READY=1\nSTATUS=serving" to the service manager. 1: sent, 0: nobody listens
 * ($NOTIFY_SOCKET is not set), or negative errno.
 */
int molt_notify(const char *state);
/* The same with descriptors, which are copied: close your own or keep them. -E2BIG: more than 253.
 */
int molt_notify_with_fds(const char *state, const int *fds, size_t n);

/*
 * How often WATCHDOG=1 is due, in microseconds (say it at half that); 0: never.
 * sd_watchdog_enabled(3).
 */
uint64_t molt_watchdog_usec(void);

/* Descriptors from the service manager: sockets of [Socket] first, then what was stored. */

#define MOLT_LISTEN_FDS_START 3

/*
 * How many there are: MOLT_LISTEN_FDS_START and up. 0: none, or they are for another process
 * ($LISTEN_PID). All are marked close-on-exec; molt_client_reexec() passes them on. Negative errno.
 */
int molt_listen_fds(void);
/*
 * The first of them with that name ($LISTEN_FDNAMES): the name of the service, or
 * FileDescriptorName=, for sockets; what it was stored as for others. -ENOENT: there is none.
 */
int molt_listen_fd(const char *name);
/* Copies the name of the index-th (from 0). 0, -ENOENT: it has none, or -ENAMETOOLONG. */
int molt_listen_fd_name(unsigned index, char *buf, size_t size);

/*
 * Gives a copy of `fd` to the service manager to keep (FileDescriptorStoreMax=): the next start of
 * the service finds it among molt_listen_fds() by `name`. 1: sent, 0: nobody listens, or negative
 * errno. Whether there was room is not told.
 */
int molt_store_fd(const char *name, int fd);
/* Takes back all of that name. */
int molt_unstore_fd(const char *name);

#ifdef __cplusplus
}
#endif

#endif
