/* SPDX-License-Identifier: MIT */
/*
 * Before PID 1 executes itself anew: the /sbin/init that is there now is asked, in a child, whether
 * it could take over (upgrade/check_state.h). It may have been replaced by something that cannot,
 * or half of it.
 */
#ifndef MOLT_INIT_SUCCESSOR_H
#define MOLT_INIT_SUCCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/error.h"

/*
 * Begins; `answered` is called once, with NULL if it could, or else with a sentence that says why
 * not. It may take `timeout_usec`. 0 or negative errno with text: then it is not called.
 */
int successor_ask(uint64_t timeout_usec, void (*answered)(const char *why), struct error *e);
/* Its answer is still to come. */
bool successor_is_asked(void);

#endif
