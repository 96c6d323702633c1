/* SPDX-License-Identifier: MIT */
/* Devices that come: the kernel's uevents (Documentation/driver-api, NETLINK_KOBJECT_UEVENT). */
#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init/initramfs.h"
#include "kernel/modules.h"
#include "kernel/util.h"

#define GROUP_KERNEL 1 /* lib/kobject_uevent.c; udev's own messages are in group 2 */
#define BUFFER_BYTES (1024 * 1024)

int initramfs_listen(struct error *e)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = GROUP_KERNEL};
	int size = BUFFER_BYTES;
	CLEANUP_FD int fd = socket(
		AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set(e, errno, "cannot listen for devices");
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return fd_steal(&fd);
}

/* "add@/devices/...", and then "KEY=VALUE" texts, each ended by NUL. */
static void take_event(const char *text, size_t length)
{
	struct error e;

	for (size_t i = 0; i < length; i += strlen(text + i) + 1)
		if (starts_with(text + i, "MODALIAS="))
			(void)modules_load(text + i + strlen("MODALIAS="), &e);
}

bool initramfs_wait(int listener, uint64_t deadline_usec)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	char text[8192];
	uint64_t now = clock_usec();
	uint64_t left = deadline_usec > now ? deadline_usec - now : 0;
	/* Rounded up: at the deadline itself it is over. */
	uint64_t msec = left / USEC_PER_MSEC + 1;
	ssize_t n;

	if (left == 0)
		return false;
	if (poll(&p, 1, msec > 60000 ? 60000 : (int)msec) < 0 && errno != EINTR)
		return false;
	/* ENOBUFS: some were lost. Either way it is time to look again. */
	while ((n = recv(listener, text, sizeof(text) - 1, 0)) > 0 || (n < 0 && errno == ENOBUFS)) {
		if (n <= 0)
			continue;
		text[n] = '\0';
		take_event(text, (size_t)n);
	}
	return true;
}
