/* SPDX-License-Identifier: MIT */
#include "services/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/util.h"
#include "services/service.h"

static void path_in(char *buf, size_t size, const char *directory, const char *unit_name)
{
	int length = (int)strlen(unit_name);

	if (ends_with(unit_name, ".service"))
		length -= (int)strlen(".service");
	(void)snprintf(buf, size, "%s/%.*s.log", directory, length, unit_name);
}

void output_path(char *buf, size_t size, const char *unit_name)
{
	path_in(buf, size, world.log_directory, unit_name);
}

static void make_parents(const char *path)
{
	char copy[512];

	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(copy, 0755); /* what matters is whether the file can be opened then */
		*slash = '/';
	}
}

static int open_for_append(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
}

static void rotate(const char *path, uint64_t max_bytes)
{
	char old[520];
	struct stat st;

	if (stat(path, &st) < 0 || (uint64_t)st.st_size <= max_bytes)
		return;
	(void)snprintf(old, sizeof(old), "%.510s.1", path);
	(void)rename(path, old);
}

int output_open(const char *path, uint64_t max_bytes, int above)
{
	char fallback[512];
	const char *base = strrchr(path, '/');

	rotate(path, max_bytes);
	make_parents(path);
	int fd = open_for_append(path);
	if (fd < 0) {
		(void)snprintf(fallback, sizeof(fallback), OUTPUT_FALLBACK_DIRECTORY "%s",
			base ? base : "/log");
		rotate(fallback, max_bytes);
		make_parents(fallback);
		fd = open_for_append(fallback);
	}
	if (fd < 0)
		return -errno;
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, above);
	int saved = errno;
	(void)fd_close(fd);
	return moved < 0 ? -saved : moved;
}

void output_find(char *buf, size_t size, const char *unit_name)
{
	char fallback[512];
	struct stat first, second;

	output_path(buf, size, unit_name);
	path_in(fallback, sizeof(fallback), OUTPUT_FALLBACK_DIRECTORY, unit_name);
	if (stat(fallback, &second) < 0)
		return;
	if (stat(buf, &first) < 0 || first.st_mtime < second.st_mtime)
		(void)snprintf(buf, size, "%s", fallback);
}
