/* SPDX-License-Identifier: MIT */
/* Numbers and names for people. Each returned string is the caller's to free. */
#ifndef MOLT_INITCTL_FORMAT_H
#define MOLT_INITCTL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "initctl/terminal.h"

char *format_span(int64_t usec); /* "8s", "5min", "3h 12min", "4d 2h" */
char *format_bytes(int64_t bytes); /* "812", "4.2K", "37M", "1.2G": powers of 1024 */

/* Whether that is a full name, as PID 1 uses it: "nginx.service". */
bool is_service(const char *name);

/* The full name, of a name as a person may type it. */
char *complete_service(const char *name);

/* "nginx" for "nginx.service": the name as a person types it; clean. */
char *format_service(const char *name);

#endif
