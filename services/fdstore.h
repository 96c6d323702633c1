/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that PID 1 keeps for a service: sd_pid_notify_with_fds(3) with FDSTORE=1. They are
 * passed to its next instance after its sockets, and outlive its processes, PID 1's own exec and
 * upgrades. One whose other end hangs up is dropped, unless FDPOLL=0 was said of it.
 */
#ifndef MOLT_SERVICES_FDSTORE_H
#define MOLT_SERVICES_FDSTORE_H

#include "services/service.h"

struct stored_fd {
	struct stored_fd *next; /* in the order they came */
	struct service *service;
	int fd; /* owned */
	bool poll;
	struct loop_source source;
	char name[256];
};

/*
 * Stores `fd`, which is taken over whatever the outcome. One that refers to the same open file as
 * another of the service is not stored again. 0, -ENOSPC: FileDescriptorStoreMax= of them are
 * there, -EMFILE: PID 1 itself would run out of descriptors, -EINVAL: no such name can be, or
 * another negative errno.
 */
int fdstore_add(struct service *s, const char *name, bool poll, int fd);
/* Takes up one that an exec carried over, whatever the limits are now. 0 or negative errno. */
int fdstore_adopt(struct service *s, const char *name, bool poll, int fd);
/* Closes those of that name. */
void fdstore_remove(struct service *s, const char *name);
void fdstore_close(struct service *s); /* all */

/* It has stopped: closes what FileDescriptorStorePreserve= does not keep. */
void fdstore_stopped(struct service *s, bool starts_again);

#endif
