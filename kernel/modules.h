/* SPDX-License-Identifier: MIT */
/*
 * Kernel modules, as far as an initramfs needs them, where there is no kmod: by name or alias, with
 * what they depend on (modules.dep(5)), from /lib/modules/RELEASE. Parameters are taken from the
 * kernel command line (MODULE.PARAMETER=VALUE), as modprobe(8) does. What the kernel has built in
 * counts as loaded.
 */
#ifndef MOLT_KERNEL_MODULES_H
#define MOLT_KERNEL_MODULES_H

#include <stdbool.h>

#include "kernel/error.h"

/* 0; -ENOENT: there is none of that name, and no alias; or another negative errno, with a text. */
int modules_load(const char *name, struct error *e);

/*
 * Whether modprobe.blacklist=NAME,... of that command line has the module: no device gets it by an
 * alias then, and who names it does, as with modprobe(8).
 */
bool modules_is_blacklisted(const char *line, const char *module);

/* Whatever drives the devices that are there: each MODALIAS below /sys/devices. What cannot be
 * loaded is not told: there may be a better one. */
void modules_load_for_devices(void);

#endif
