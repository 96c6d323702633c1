/* SPDX-License-Identifier: MIT */
#include "conf/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

#define CLEANUP_FD __attribute__((cleanup(close_fd)))

/* RESOLVE_IN_ROOT answers EAGAIN if something was renamed meanwhile: openat2(2). */
#define OPEN_ATTEMPTS 32

/* Returns a file descriptor or a negative errno. */
static int open_below(int root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC),
		.resolve = RESOLVE_NO_MAGICLINKS | (root == AT_FDCWD ? 0 : RESOLVE_IN_ROOT),
	};

	for (int i = 0; i < OPEN_ATTEMPTS; i++) {
		long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

/* Told by the link, not by what it leads to: an image at rest has no /dev/null. */
static bool links_to_null(int root, const char *path)
{
	char target[sizeof("/dev/null")];
	CLEANUP_FD int fd = open_below(root, path, O_PATH | O_NOFOLLOW);

	if (fd < 0)
		return false;
	ssize_t n = readlinkat(fd, "", target, sizeof(target));
	return n == (ssize_t)strlen("/dev/null") && memcmp(target, "/dev/null", (size_t)n) == 0;
}

/* Looks before it opens: opening a device can start something. */
static int check_file(int root, const char *path)
{
	struct stat st;
	CLEANUP_FD int fd = open_below(root, path, O_PATH);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
		return -ERFKILL;
	return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

static int open_regular(int root, const char *path)
{
	if (links_to_null(root, path))
		return -ERFKILL;
	int r = check_file(root, path);
	return r < 0 ? r : open_below(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

static int regular_size(int fd, size_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size == 0)
		return -ERFKILL;
	if ((uint64_t)st.st_size > CONF_FILE_MAX)
		return -EFBIG;
	*ret = (size_t)st.st_size;
	return 0;
}

/* Exactly `size` bytes: a file that is being written is not read by half. */
static int read_exactly(int fd, char *out, size_t size)
{
	size_t n = 0;

	for (;;) {
		/* One byte more than expected, which the buffer has for its NUL. */
		ssize_t got = read(fd, out + n, size + 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		n += (size_t)got;
		if (got == 0 || n > size)
			return n == size ? 0 : -EAGAIN;
	}
}

static int read_text(int fd, char **ret_text, size_t *ret_length)
{
	size_t size = 0;
	int r = regular_size(fd, &size);
	if (r < 0)
		return r;

	char *text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	r = read_exactly(fd, text, size);
	if (r < 0) {
		free(text);
		return r;
	}
	text[size] = '\0';
	*ret_text = text;
	*ret_length = size;
	return 0;
}

static int explain(struct error *e, int r, const char *path)
{
	switch (r) {
	case -ENOENT:
	case -ENOTDIR:
		return -ENOENT;
	case -ERFKILL:
		return r;
	case -EINVAL:
		return error_say(e, r, "cannot read %s: not a regular file", path);
	case -EFBIG:
		return error_say(e, r, "cannot read %s: larger than 1 MiB", path);
	case -EAGAIN:
		return error_say(e, r, "cannot read %s: it changed meanwhile", path);
	default:
		return error_set(e, r, "cannot read %s", path);
	}
}

int conf_file_read(int root, const char *path, char **ret_text, size_t *ret_length, struct error *e)
{
	CLEANUP_FD int fd = open_regular(root, path);
	int r = fd < 0 ? fd : read_text(fd, ret_text, ret_length);

	return r < 0 ? explain(e, r, path) : 0;
}

char *conf_path(const char *directory, const char *name, const char *suffix)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s%s", directory, name, suffix) < 0 ? NULL : path;
}

static bool is_dropin_name(const char *name)
{
	size_t n = strlen(name);

	return name[0] != '.' && n > strlen(".conf") &&
	       strcmp(name + n - strlen(".conf"), ".conf") == 0;
}

static bool contains(const struct dropins *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i].name, name) == 0)
			return true;
	}
	return false;
}

static int append_dropin(struct dropins *list, const char *directory, const char *name)
{
	if (list->count >= CONF_DROPINS_MAX)
		return -E2BIG;
	struct dropin *grown = reallocarray(list->items, list->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->items = grown;

	struct dropin d = {.name = strdup(name), .path = conf_path(directory, name, "")};
	if (!d.name || !d.path) {
		free(d.name);
		free(d.path);
		return -ENOMEM;
	}
	grown[list->count++] = d;
	return 0;
}

static int read_directory(struct dropins *list, DIR *dir, const char *path)
{
	struct dirent *entry;

	for (errno = 0; (entry = readdir(dir)); errno = 0) {
		if (!is_dropin_name(entry->d_name) || contains(list, entry->d_name))
			continue;
		int r = append_dropin(list, path, entry->d_name);
		if (r < 0)
			return r;
	}
	return -errno;
}

static int collect_from(struct dropins *list, int root, const char *path)
{
	int fd = open_below(root, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;

	DIR *dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	int r = read_directory(list, dir, path);
	(void)closedir(dir);
	return r;
}

int dropins_collect(
	struct dropins *list, int root, const char *directory, const char *name, struct error *e)
{
	char *path = conf_path(directory, name, ".d");
	if (!path)
		return error_say(e, -ENOMEM, "out of memory");

	int r = collect_from(list, root, path);
	if (r == -E2BIG)
		r = error_say(e, r, "%s: more than %d drop-ins", path, CONF_DROPINS_MAX);
	else if (r < 0)
		r = error_set(e, r, "cannot read the directory %s", path);
	free(path);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct dropin *)a)->name, ((const struct dropin *)b)->name);
}

void dropins_sort(struct dropins *list)
{
	if (list->count > 1)
		qsort(list->items, list->count, sizeof(*list->items), compare_names);
}

void dropins_done(struct dropins *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].name);
		free(list->items[i].path);
	}
	free(list->items);
	*list = (struct dropins){0};
}
