/* SPDX-License-Identifier: MIT */
/*
 * The upgrade handshake, for services that want a say (Handshake=yes): a SOCK_SEQPACKET pair for
 * each instance, one end of which its main process inherits, with the number in $MOLT_FD. One
 * message is one packet of KEY=value words:
 *
 *     init -> service   PREPARE generation=7 deadline_usec=...    may I swap the image under you
 * now? service -> init   PREPARED=1                                yes REFUSED=reason no; up to the
 * end of the line init -> service   REEXEC generation=7                       you stand on that
 * image: exec yourself ABORT generation=7                        nothing happened, carry on COMMIT
 * generation=7                       it is done, and no REEXEC comes
 *
 * deadline_usec is CLOCK_MONOTONIC in microseconds, and no two PREPAREs have the same: an answer
 * may repeat it, and is then never taken for one to another PREPARE. READY=1 after the exec goes
 * over the notification socket. REFUSED= in answer to REEXEC says that the service cannot.
 *
 * A packet counts only if its sender is in the instance's cgroup (SCM_CREDENTIALS). Who sends what
 * nobody asked for, too often, loses the socket.
 */
#ifndef MOLT_SERVICES_HANDSHAKE_H
#define MOLT_SERVICES_HANDSHAKE_H

#include "services/service.h"

/* Makes the pair and watches PID 1's end. *ret_end is for the child, O_CLOEXEC, the caller's. */
int handshake_open(struct instance *i, int *ret_end);
/* Takes up PID 1's end, which an exec carried over; -1: there is none. 0 or negative errno. */
int handshake_adopt(struct instance *i, int fd);
void handshake_close(struct instance *i);
bool handshake_is_open(const struct instance *i);

/* 0, -ENOTCONN: there is no socket, -EAGAIN: the service does not read; nothing was sent then. */
int handshake_prepare(struct instance *i, unsigned generation, uint64_t deadline_usec);
int handshake_reexec(struct instance *i, unsigned generation);
int handshake_abort(struct instance *i, unsigned generation);
int handshake_commit(struct instance *i, unsigned generation);

#endif
