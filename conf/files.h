/* SPDX-License-Identifier: MIT */
/* Configuration files and the drop-ins beside them, below a root directory. */
#ifndef MOLT_CONF_FILES_H
#define MOLT_CONF_FILES_H

#include <stddef.h>

#include "kernel/error.h"

#define CONF_FILE_MAX ((size_t)1 << 20)
#define CONF_DROPINS_MAX 1000

/*
 * Reads a whole file below the directory fd `root` (AT_FDCWD: no boundary). Returns 0, -ENOENT,
 * -ERFKILL if it is masked (empty or a link to /dev/null), -EINVAL if it is no regular file, -EFBIG
 * past CONF_FILE_MAX, another negative errno. The first two leave `e` alone: they may be fine.
 * *ret_text is the caller's and NUL-terminated. Never waits for a FIFO, and never opens a device.
 */
int conf_file_read(
	int root, const char *path, char **ret_text, size_t *ret_length, struct error *e);

struct dropin {
	char *name; /* "50-more.conf" */
	char *path;
};

struct dropins {
	struct dropin *items;
	size_t count;
};

/*
 * Adds the *.conf files of the directory DIRECTORY NAME ".d" to the list. One whose name is there
 * already is hidden by that; a directory that does not exist has none.
 */
int dropins_collect(
	struct dropins *list, int root, const char *directory, const char *name, struct error *e);
void dropins_sort(struct dropins *list); /* by name: the order in which they are read */
void dropins_done(struct dropins *list);

/* "DIRECTORY/NAMESUFFIX", the caller's; NULL if there is no memory. */
char *conf_path(const char *directory, const char *name, const char *suffix);

#endif
