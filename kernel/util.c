/* SPDX-License-Identifier: MIT */
#include "kernel/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel/identity.h"

void fd_closep(int *fd)
{
	*fd = fd_close(*fd);
}

void freep(void *pointer)
{
	void **p = pointer;

	free(*p);
	*p = NULL;
}

int fd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		/* EINTR and EIO leave the number closed all the same on Linux: close(2). */
		identity_forget(fd);
		(void)close(fd);
		errno = saved;
	}
	return -1;
}

int fd_steal(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

int fd_set_cloexec(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0)
		return -errno;
	flags = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
	return fcntl(fd, F_SETFD, flags) < 0 ? -errno : 0;
}

uint64_t clock_usec(void)
{
	struct timespec ts;

	/* Cannot fail: the clock exists on every Linux and ts is ours. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t usec_add(uint64_t a, uint64_t b)
{
	return a > USEC_INFINITY - b ? USEC_INFINITY : a + b;
}

uint64_t deadline_in(uint64_t usec)
{
	return usec_add(clock_usec(), usec);
}

ssize_t file_read(int dirfd, const char *path, char *buf, size_t size)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t used = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		if (used == size)
			return -E2BIG;
		ssize_t n = read(fd, buf + used, size - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
	return (ssize_t)used;
}

int file_write(int dirfd, const char *path, const char *text)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	size_t length = strlen(text);

	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, length);
	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -EIO;
}

bool parse_u64(const char *text, uint64_t *ret)
{
	uint64_t value = 0;

	if (!text || !*text)
		return false;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		uint64_t digit = (uint64_t)(*p - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return true;
}

bool parse_pid(const char *text, pid_t *ret)
{
	uint64_t value;

	if (!parse_u64(text, &value) || value == 0 || value > INT_MAX)
		return false;
	*ret = (pid_t)value;
	return true;
}

bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool ends_with(const char *text, const char *suffix)
{
	size_t a = strlen(text), b = strlen(suffix);

	return a >= b && strcmp(text + a - b, suffix) == 0;
}
