/* SPDX-License-Identifier: MIT */
/* What conf/'s own files share about commands; conf/unit.h has the rest. */
#ifndef MOLT_CONF_COMMAND_H
#define MOLT_CONF_COMMAND_H

#include "conf/unit.h"

/*
 * Takes the next command off *cursor: up to the end or a lone semicolon. Returns 1, 0 at the end,
 * or a negative errno. *ret is the caller's, command_done().
 */
int command_next(const char **cursor, const char *unit_name, struct command *ret, struct error *e);

void command_done(struct command *c); /* frees what it owns and zeroes it */
void commands_done(struct commands *list);

#endif
