/* SPDX-License-Identifier: MIT */
/* The log of a service: PID 1 says where the file is, the file is read here. */
#ifndef MOLT_INITCTL_LOG_H
#define MOLT_INITCTL_LOG_H

#include <stdbool.h>

#include "kernel/error.h"

#define LOG_ALL (-1L)

struct log_options {
	long lines; /* at the end of the file; LOG_ALL */
	bool follow;
	bool json; /* each line as {"event":"line","text":"..."} */
};

/*
 * Prints the last lines of the file, then, to follow, what is added, until stdout is closed. A file
 * that was renamed is left once a new one stands in its place, one that was cut is read from its
 * beginning. Returns 0 or a negative errno.
 */
int log_print(const char *path, const struct log_options *options, struct error *e);

#endif
