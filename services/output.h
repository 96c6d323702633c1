/* SPDX-License-Identifier: MIT */
/* Where a service's stdout and stderr go: one file per service, appended to, kept from growing
 * without bound. */
#ifndef MOLT_SERVICES_OUTPUT_H
#define MOLT_SERVICES_OUTPUT_H

/* Where output goes while the directory of the logs cannot be written to, or is not mounted yet. */
#define OUTPUT_FALLBACK_DIRECTORY "/run/molt/log"

#include <stddef.h>
#include <stdint.h>

/* The path of NAME's log below the log directory: "/var/log/molt/nginx.log". */
void output_path(char *buf, size_t size, const char *unit_name);

/*
 * For the child: opens `path` for appending, after renaming it to PATH.1 if it is larger than
 * max_bytes. Falls back to /run/molt/log where the directory is not writable (yet). A descriptor >=
 * above, or negative errno.
 */
int output_open(const char *path, uint64_t max_bytes, int above);

/* Which of the two files to read: the one written to last. */
void output_find(char *buf, size_t size, const char *unit_name);

#endif
