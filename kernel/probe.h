/* SPDX-License-Identifier: MIT */
/* What lies on a block device or in a file, by its first sectors, through libblkid. */
#ifndef MOLT_KERNEL_PROBE_H
#define MOLT_KERNEL_PROBE_H

#include <stdbool.h>
#include <stdint.h>

struct probe {
	char type[32]; /* "ext4", "squashfs", "crypto_LUKS" ...; "": nothing that is known */
	bool file_system; /* and it is one */
	bool several; /* more than one thing: which of them is meant cannot be told */
	char table[32]; /* "gpt", "dos": a partition table; "": none */
	uint64_t bytes; /* how long the device or file is */
	uint64_t needed; /* how long the file system says it is, where that is easily read; or 0 */
};

/* Reads from `fd`. 0 or negative errno. */
int probe_fd(int fd, struct probe *ret);

/*
 * Looks at all block devices for one with that tag ("UUID", "LABEL", "PARTUUID", "PARTLABEL"): how
 * many there are, or negative errno. `path` (of PATH_MAX bytes) is that of one of them.
 */
int probe_find(const char *tag, const char *value, char *path);

#endif
