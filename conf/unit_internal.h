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

/* At last: the defaults that hang on other keys, and whether it all makes sense together. */
int unit_finish(struct unit *u, unit_warn warn, void *userdata, struct error *e);

void unit_clear_listen(struct unit *u);
void listen_config_done(struct listen_config *l);

extern const char *const SERVICE_TYPE_NAMES[];
extern const char *const RESTART_WHEN_NAMES[];
extern const char *const KILL_MODE_NAMES[];
extern const char *const NOTIFY_ACCESS_NAMES[];
extern const char *const FD_STORE_PRESERVE_NAMES[];
extern const char *const UPGRADE_POLICY_NAMES[];

#endif
