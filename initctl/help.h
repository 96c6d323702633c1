/* SPDX-License-Identifier: MIT */
/* The texts of --help, made from the table of verbs. */
#ifndef MOLT_INITCTL_HELP_H
#define MOLT_INITCTL_HELP_H

#include "initctl/command.h"

int run_help(const struct invocation *i);
void help_all(void);
void help_verb(const struct verb *v);

/* "usage: initctl log [-f] [-n LINES] [--json] NAME", the caller's to free. */
char *usage_of(const struct verb *v);

/* Complains about that verb and returns CONTROL_EXIT_USAGE. */
int complain_unknown_verb(const char *name);

#endif
