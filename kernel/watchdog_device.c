/* SPDX-License-Identifier: MIT */
#include "kernel/watchdog_device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/watchdog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/util.h"

int watchdog_device_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

uint64_t watchdog_device_set(int fd, uint64_t usec)
{
	uint64_t whole = usec / USEC_PER_SEC + (usec % USEC_PER_SEC != 0);
	int seconds = whole > INT_MAX ? INT_MAX : (int)whole, now = 0;

	/* It answers with what it has made of that; one that cannot do it has a time of its own. */
	if (ioctl(fd, WDIOC_SETTIMEOUT, &seconds) == 0)
		return (uint64_t)seconds * USEC_PER_SEC;
	if (ioctl(fd, WDIOC_GETTIMEOUT, &now) == 0 && now > 0)
		return (uint64_t)now * USEC_PER_SEC;
	return 0;
}

int watchdog_device_ping(int fd)
{
	ssize_t n;

	/* Any byte but the magic one. A write does what WDIOC_KEEPALIVE does, on every driver. */
	do {
		n = write(fd, "\0", 1);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

void watchdog_device_disarm(int fd)
{
	int flags = WDIOS_DISABLECARD;

	(void)ioctl(fd, WDIOC_SETOPTIONS, &flags);
	(void)!write(fd, "V", 1);
	(void)fd_close(fd);
}
