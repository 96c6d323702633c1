/* SPDX-License-Identifier: MIT */
/* Allocation for a short-lived client: without memory there is nothing left to say but that. */
#ifndef MOLT_INITCTL_MEMORY_H
#define MOLT_INITCTL_MEMORY_H

#include <stddef.h>

#define NEVER_NULL __attribute__((returns_nonnull))

/* Each ends the process with CONTROL_EXIT_FAILED and a message if there is no memory. */
void *allocate(size_t size) NEVER_NULL; /* zeroed */
void *reallocate(void *old, size_t count, size_t size) NEVER_NULL; /* an array of count members */
char *copy_text(const char *text) NEVER_NULL;
char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2))) NEVER_NULL;

#endif
