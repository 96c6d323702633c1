/* SPDX-License-Identifier: MIT */
#ifndef MOLT_CONF_NUMBER_H
#define MOLT_CONF_NUMBER_H

#include <stdint.h>

/* A decimal number and nothing else: no space, no "+". Returns 0 or -EINVAL (also out of range). */
int number_parse(const char *text, int64_t *ret);

#endif
