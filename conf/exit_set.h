/* SPDX-License-Identifier: MIT */
/* SuccessExitStatus= and its like: ways to end, as exit codes and signals. */
#ifndef MOLT_CONF_EXIT_SET_H
#define MOLT_CONF_EXIT_SET_H

#include <stdbool.h>
#include <stdint.h>

struct exit_set {
	uint64_t codes[4]; /* a bit for each of 0 to 255 */
	uint64_t signals; /* a bit for each of 1 to 64, from the lowest on */
};

/* Whether that exit code, or that signal, is in the set. */
bool exit_set_has(const struct exit_set *set, bool signal, int status);

#endif
