/* SPDX-License-Identifier: MIT */
/* The verbs of initctl: the one table that says what each takes and what carries it out. */
#ifndef MOLT_INITCTL_VERBS_H
#define MOLT_INITCTL_VERBS_H

#include <limits.h>

#include "initctl/command.h"

#define ARGUMENTS_ANY INT_MAX

extern const struct verb verbs[]; /* ends with one without a name */

const struct verb *verb_find(const char *name); /* or NULL */
/* The verb that was probably meant, or NULL if none is near. */
const char *verb_nearest(const char *name);

#endif
