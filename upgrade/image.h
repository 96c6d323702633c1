/* SPDX-License-Identifier: MIT */
/*
 * Opening and judging an image: everything slow or risky, in a child of PID 1. The child has a copy
 * of PID 1's memory, so it knows the services; it answers over a SOCK_SEQPACKET socket with records
 * (conf/protocol.h) for the client, and last with one of kind "image" that carries the detached
 * mount of the new root, or one of kind "unfit" with the reason, or one of kind "same": it is the
 * image that runs.
 */
#ifndef MOLT_UPGRADE_IMAGE_H
#define MOLT_UPGRADE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/error.h"
#include "upgrade/image_open.h"

struct image_request {
	const char *path;
	struct image_options options;
	bool plan; /* only to be looked at */
	unsigned generation; /* that it would become */
	char *const *carry; /* globs; NULL-terminated */
	const char *carry_directory;
	int state_fd; /* a copy of PID 1's state, for --check-state */
	uint64_t check_usec; /* how long that may take */
	int tree;
	bool force; /* each blocker is said yes to: then it is logged */
};

/* The child's whole life: judges, answers over `socket`, ends. */
void image_judge(const struct image_request *request, int socket) __attribute__((noreturn));

/* PRETTY_NAME of /etc/os-release below `root` (AT_FDCWD: /); "unknown" where there is none. */
void image_name(int root, char *buf, size_t size);

#endif
