/* SPDX-License-Identifier: MIT */
/* Specifiers: systemd.unit(5), "SPECIFIERS". */
#ifndef MOLT_CONF_SPECIFIER_H
#define MOLT_CONF_SPECIFIER_H

#include <stddef.h>

#include "kernel/error.h"

/*
 * Replaces in `text`, for a unit "NAME.service" or "PREFIX@INSTANCE.service":
 *   %n the unit's name   %N the same without suffix   %p PREFIX (NAME)
 *   %i INSTANCE ("")     %I the same, unescaped       %% a percent sign
 *   %t %S %C %L %E       /run /var/lib /var/cache /var/log /etc
 * *ret is the caller's. Returns 0, -EINVAL for another letter, -ENOMEM, -E2BIG for a text that
 * would grow past SPECIFIER_MAX.
 */
int specifiers_expand(const char *text, const char *unit_name, char **ret, struct error *e);

#define SPECIFIER_MAX ((size_t)1 << 20)

#endif
