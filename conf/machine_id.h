/* SPDX-License-Identifier: MIT */
/* The 128 bits of machine-id(5), as text. */
#ifndef MOLT_CONF_MACHINE_ID_H
#define MOLT_CONF_MACHINE_ID_H

#include <stdbool.h>
#include <stdint.h>

/* Is there from a boot that had to make one to the next: ConditionFirstBoot=. */
#define FIRST_BOOT_PATH "/run/molt/first-boot"

#define MACHINE_ID_PATH "/etc/machine-id"
/* Where one is that the boot has made for a root that cannot be written to; it is mounted over the
 * other. */
#define MACHINE_ID_MADE "/run/machine-id"
#define MACHINE_ID_SIZE 33 /* 32 lower-case hexadecimal digits and the NUL */

/*
 * Takes it from a text, with the dashes of a UUID or without, in either case, blanks around it.
 * False if it is none, or one that is no identity: all zeros, or all ones (what firmware has where
 * nobody has set a UUID).
 */
bool machine_id_parse(const char *text, char ret[MACHINE_ID_SIZE]);
/* From 16 random bytes: a UUID of version 4 (RFC 9562), so that it can be used as one. */
void machine_id_from_random(const uint8_t bytes[16], char ret[MACHINE_ID_SIZE]);
/* Whether a DMI vendor or product is one of a virtual machine whose UUID is the machine's own. */
bool machine_id_trusts_vendor(const char *text);

#endif
