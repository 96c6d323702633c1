/* SPDX-License-Identifier: MIT */
/* What the files unit*.c share: a unit comes to be in three steps, the first of which, the
 * defaults, is unit.c's own. */
#ifndef MOLT_CONF_UNIT_INTERNAL_H
#define MOLT_CONF_UNIT_INTERNAL_H

#include <stddef.h>

#include "conf/unit.h"
#include "kernel/error.h"

/* Then, for the unit's file and each drop-in: its assignments, on top of what is
 * there. */
int unit_apply_text(struct unit *u, const char *source, const char *text, size_t length,
	unit_warn warn, void *userdata, struct error *e);

/* The same of a .socket unit, read into a struct unit of its own. */
int unit_apply_socket_text(struct unit *u, const char *source, const char *text, size_t length,
	unit_warn warn, void *userdata, struct error *e);

/* The .socket units that it has a use for, by name: next(u, &i) until it returns NULL. */
const char *unit_next_socket_unit(const struct unit *u, size_t *i);

/*
 * Moves the sockets of a .socket unit, read into `from`, to the unit, if they are for it. 0 or a
 * negative errno with text.
 */
int unit_take_sockets(struct unit *u, struct unit *from, struct error *e);

/* At last: the defaults that hang on other keys, and whether it all makes sense together. */
int unit_finish(struct unit *u, unit_warn warn, void *userdata, struct error *e);

void unit_clear_listen(struct unit *u);
void socket_options_done(struct socket_options *o);
void listen_config_done(struct listen_config *l);

extern const char *const SERVICE_TYPE_NAMES[];
extern const char *const RESTART_WHEN_NAMES[];
extern const char *const KILL_MODE_NAMES[];
extern const char *const NOTIFY_ACCESS_NAMES[];
extern const char *const FD_STORE_PRESERVE_NAMES[];
extern const char *const UPGRADE_POLICY_NAMES[];

#endif
