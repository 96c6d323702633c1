/* SPDX-License-Identifier: MIT */
/* What initctl can ask for, one verb at a time: a table of verbs and who may use them. */
#ifndef MOLT_INIT_COMMANDS_H
#define MOLT_INIT_COMMANDS_H

#include "conf/record.h"
#include "init/control.h"

/* Answers a request, now or later. */
void command_run(struct client *c, const struct record *request);
/* Whether what a client waits for has come about; answers if so. */
void command_check_wait(struct client *c, const char *verb, const char *unit);

/* The hooks of upgrade/: what it reports goes to whoever asked. */
void command_upgrade_emit(const char *text, size_t length);
void command_upgrade_finished(const char *result, const char *text);

#endif
