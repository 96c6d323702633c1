/* SPDX-License-Identifier: MIT */
/* What an ELF file says of itself: its build id, its interpreter. */
#ifndef MOLT_UPGRADE_BUILD_ID_H
#define MOLT_UPGRADE_BUILD_ID_H

#include <stddef.h>

#define BUILD_ID_MAX 65 /* as text: hexadecimal digits and NUL */

/* The build id of an open file (ld(1), --build-id). 0; -ENODATA: it has none; -ENOEXEC: it is no
 * ELF file of ours; another negative errno. */
int build_id_read(int fd, char ret[BUILD_ID_MAX]);

/* The path in PT_INTERP: the loader that the file asks for. As above; -ENODATA: it is static. */
int elf_interpreter_read(int fd, char *ret, size_t size);

#endif
