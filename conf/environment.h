/* SPDX-License-Identifier: MIT */
/* What conf/'s own files share about environments; conf/unit.h has the rest. */
#ifndef MOLT_CONF_ENVIRONMENT_H
#define MOLT_CONF_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* A letter or underscore, then letters, digits and underscores. */
bool environment_name_is_valid(const char *name, size_t length);

#endif
