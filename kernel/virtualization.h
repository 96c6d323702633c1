/* SPDX-License-Identifier: MIT */
/* What the system runs in: a virtual machine, a container, or neither. */
#ifndef MOLT_KERNEL_VIRTUALIZATION_H
#define MOLT_KERNEL_VIRTUALIZATION_H

#include <stdbool.h>

struct virtualization {
	const char *machine; /* "kvm", "qemu", "vmware", ..., "vm-other"; NULL: real hardware */
	const char *container; /* "docker", "lxc", ..., "container-other"; NULL: none */
};

/* Finds it out, in the names of systemd-detect-virt(1). Reads sysfs and files in / and /run: for a
 * child. */
void virtualization_detect(struct virtualization *ret);

/*
 * Whether it is "vm", "container", or has that name. That of a container counts before that of the
 * machine it runs in.
 */
bool virtualization_is(const struct virtualization *v, const char *value);

/* The pieces, pure: of a vendor or product in DMI, and of the signature that the processor shows
 * to who runs in a virtual machine. NULL: that is none known here. */
const char *virtualization_of_dmi(const char *text);
const char *virtualization_of_signature(const char *signature);

#endif
