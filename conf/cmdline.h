/* SPDX-License-Identifier: MIT */
/* The words of a kernel command line, as the kernel itself splits it: double quotes keep blanks. */
#ifndef MOLT_CONF_CMDLINE_H
#define MOLT_CONF_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

/* Copies the next word off *cursor into buf, without its quotes, cut at `size`. False: there is no
 * more. */
bool cmdline_next(const char **cursor, char *buf, size_t size);
/* The value of the last "KEY=VALUE" there. False, and buf untouched, if there is none. */
bool cmdline_get(const char *line, const char *key, char *buf, size_t size);

#endif
