/* SPDX-License-Identifier: MIT */
/* A root directory of the test's own, with the files that a test writes into it. */
#ifndef MOLT_TESTS_OWN_ROOT_H
#define MOLT_TESTS_OWN_ROOT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct own_root {
	char directory[64];
	int fd;
};

static inline void own_root_make(struct own_root *r)
{
	(void)strcpy(r->directory, "/tmp/molt-test-root-XXXXXX");
	assert_non_null(mkdtemp(r->directory));
	r->fd = open(r->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(r->fd >= 0);
}

static inline int own_root_remove_entry(
	const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(name);
}

static inline void own_root_remove(struct own_root *r)
{
	(void)close(r->fd);
	(void)nftw(r->directory, own_root_remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void own_root_make_parents(const struct own_root *r, const char *name)
{
	char parent[512];

	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - name), name);
		if (mkdirat(r->fd, parent, 0755) < 0)
			assert_int_equal(errno, EEXIST);
	}
}

static inline void own_root_write(
	const struct own_root *r, const char *name, const char *text, size_t length)
{
	own_root_make_parents(r, name);
	int fd = openat(r->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, length), length);
	assert_int_equal(close(fd), 0);
}

#endif
